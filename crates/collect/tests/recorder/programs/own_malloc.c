/* An executable that exports an allocator of its own, as with a static tcmalloc. */
#define BYTES (1ul << 24)
#include "never_reused.h"
#include <stdlib.h>
#include <unistd.h>

static char *arena(void) {
    static char start[BYTES];
    return start;
}

int main(void) {
    for (int i = 0; i < 1000; i++) free(malloc(27));
    void *aligned = NULL;
    if (posix_memalign(&aligned, 64, 91) != 0) return 1;
    return write(1, "fine\n", 5) == 5 ? 0 : 2;
}
