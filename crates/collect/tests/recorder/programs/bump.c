/* A shared object with an allocator that never reuses memory and may be interrupted anywhere. */
#define BYTES (1ul << 34)
#include "never_reused.h"
#include <sys/mman.h>

static char *start;

__attribute__((constructor)) static char *arena(void) {
    if (start == NULL)
        start = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return start;
}
