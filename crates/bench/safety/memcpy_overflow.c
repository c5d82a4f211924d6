// overflow
#include "twin.h"
__attribute__((noinline)) static void bug(char *p, const char *q) { memcpy(p, q, BYTES + ERROR); sink = p[0]; } // told
int main(void) { char *p = make(BYTES), *q = make(BYTES + 1); bug(p, q); drop(p); drop(q); return 0; }
