// overflow
#include "twin.h"
__attribute__((noinline)) static void bug(char *p) { sink = p[BYTES - 1 + ERROR * 16]; } // told
int main(void) { char *p = make(BYTES); bug(p); drop(p); return 0; }
