// mismatched-free
#include "twin.h"
__attribute__((noinline)) static void bug(char *p) { if (ERROR) free(p); else operator delete(p); sink = 2; } // told
int main() { bug((char *)operator new(BYTES)); return 0; } // made
