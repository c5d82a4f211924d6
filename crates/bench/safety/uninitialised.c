// uninitialised
#include "twin.h"
__attribute__((noinline)) static void bug(char *p) { if (!ERROR) memset(p, 7, BYTES); printf("%d\n", p[BYTES / 2]); } // told
int main(void) { char *p = (char *)malloc(BYTES); bug(p); drop(p); return 0; } // made
