// double-free
#include "twin.h"
__attribute__((noinline)) static void bug(char *p) { if (ERROR) free(p); sink = 2; } // told
int main(void) { char *p = make(BYTES); drop(p); bug(p); return 0; }
