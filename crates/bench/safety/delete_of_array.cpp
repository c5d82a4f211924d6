// mismatched-free
#include "twin.h"
__attribute__((noinline)) static void bug(char *p) { if (ERROR) delete p; else delete[] p; sink = 2; } // told
int main() { bug(new char[BYTES]); return 0; } // made
