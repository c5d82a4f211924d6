// invalid-free
#include "twin.h"
__attribute__((noinline)) static void bug(char *p) { free(p + ERROR); sink = 2; } // told
int main(void) { char *p = make(BYTES); bug(p); if (ERROR) drop(p); return 0; }
