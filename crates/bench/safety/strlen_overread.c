// overflow
#include "twin.h"
__attribute__((noinline)) static void bug(char *p) { sink = (char)strlen(p); } // told
int main(void) { char *p = make(BYTES); if (!ERROR) p[BYTES - 1] = 0; bug(p); drop(p); return 0; }
