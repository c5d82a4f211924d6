// leak
#include "twin.h"
__attribute__((noinline)) static void bug(char **place) { if (ERROR) *place = 0; sink = 1; } // told
int main(void) { char *p = make(BYTES); bug(&p); if (p) drop(p); return 0; }
