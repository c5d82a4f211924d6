// overflow overwritten-after
#include "twin.h"
__attribute__((noinline)) static void bug(char *p) { p[BYTES - 1 + ERROR] = 1; } // told
int main(void) { char *p = make(BYTES); bug(p); drop(p); return 0; }
