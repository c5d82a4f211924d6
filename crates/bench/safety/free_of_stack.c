// invalid-free
#include "twin.h"
__attribute__((noinline)) static void bug(char *p) { if (ERROR) free(p); sink = 2; } // told
int main(void) { char room[BYTES]; room[0] = 1; bug(room); return 0; }
