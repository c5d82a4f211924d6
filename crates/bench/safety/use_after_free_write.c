// use-after-free write-after-free
#include "twin.h"
__attribute__((noinline)) static void bug(char *p) { p[BYTES / 2] = 1; } // told
int main(void) { char *p = make(BYTES); if (!ERROR) bug(p); drop(p); if (ERROR) bug(p); return 0; }
