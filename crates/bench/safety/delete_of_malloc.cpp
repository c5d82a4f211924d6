// mismatched-free
#include "twin.h"
__attribute__((noinline)) static void bug(char *p) { if (ERROR) operator delete(p); else free(p); sink = 2; } // told
int main() { bug(make(BYTES)); return 0; }
