// use-after-free
#include "twin.h"
__attribute__((noinline)) static void bug(char *p) { sink = p[0]; } // told
int main(void) {
    char *p = make(BYTES), *q = (char *)realloc(p, BYTES + 1); // freed
    bug(ERROR ? p : q);
    drop(q);
    return 0;
}
