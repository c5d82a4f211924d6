// overflow
#include "twin.h"
__attribute__((noinline)) static void bug(char *p) { snprintf(p, BYTES + ERROR, "%*d", BYTES + 1, 7); sink = p[0]; } // told
int main(void) { char *p = make(BYTES); bug(p); drop(p); return 0; }
