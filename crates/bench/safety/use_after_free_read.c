// use-after-free
#include "twin.h"
__attribute__((noinline)) static void bug(char *p) { sink = p[BYTES / 2]; } // told
int main(void) { char *p = make(BYTES); if (!ERROR) bug(p); drop(p); if (ERROR) bug(p); return 0; }
