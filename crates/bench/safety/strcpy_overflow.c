// overflow
#include "twin.h"
__attribute__((noinline)) static void bug(char *p, const char *q) { strcpy(p, q + 1 - ERROR); sink = p[0]; } // told
int main(void) {
    char *p = make(BYTES), *q = make(BYTES + 1);
    q[BYTES] = 0;
    bug(p, q);
    drop(p);
    drop(q);
    return 0;
}
