// overflow
#include "twin.h"
__attribute__((noinline)) static void bug(int fd, char *p) { sink = (char)read(fd, p, BYTES + ERROR); } // told
int main(void) {
    int ends[2];
    char *p = make(BYTES), *q = make(BYTES + 1);
    if (pipe(ends) || BYTES > 60000) return 0;
    sink = (char)write(ends[1], q, BYTES + 1);
    bug(ends[0], p);
    drop(p);
    drop(q);
    return 0;
}
