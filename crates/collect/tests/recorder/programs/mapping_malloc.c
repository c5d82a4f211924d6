/* An executable that exports an allocator which maps its arena at the first call and cannot be
   called again meanwhile, as jemalloc linked into a program. The first call comes from the
   constructor of a library (EARLY), before any other object had its turn. */
#include <stdlib.h>

#ifdef EARLY
__attribute__((constructor)) static void early(void) { free(malloc(10)); }
#else
#define BYTES (1ul << 24)
#include "never_reused.h"
#include <sys/mman.h>
#include <unistd.h>

static char *arena(void) {
    static char *start;
    static int starting;
    if (start != NULL) return start;
    if (starting) {
        (void)!write(1, "called again inside of itself\n", 30);
        _exit(3);
    }
    starting = 1;
    start = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    starting = 0;
    if (start == MAP_FAILED) _exit(4);
    return start;
}

int main(void) {
    for (int i = 0; i < 1000; i++) free(malloc(27));
    return write(1, "fine\n", 5) == 5 ? 0 : 2;
}
#endif
