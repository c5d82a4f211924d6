/* An executable that exports an allocator of its own, as with a static tcmalloc. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char arena[1 << 24];
static _Atomic size_t used;

void *malloc(size_t size) {
    size_t start = __atomic_fetch_add((size_t *)&used, (size + 31) & ~15ul, __ATOMIC_RELAXED);
    if (start + size + 32 > sizeof arena) return NULL;
    *(size_t *)(arena + start) = size;
    return arena + start + 16;
}
void free(void *block) { (void)block; }
void *calloc(size_t count, size_t size) { return malloc(count * size); }
void *realloc(void *block, size_t size) {
    void *new = malloc(size);
    if (new != NULL && block != NULL) {
        size_t old = ((size_t *)block)[-2];
        memcpy(new, block, old < size ? old : size);
    }
    return new;
}

int main(void) {
    for (int i = 0; i < 1000; i++) free(malloc(27));
    void *aligned = NULL;
    if (posix_memalign(&aligned, 64, 91) != 0) return 1;
    return write(1, "fine\n", 5) == 5 ? 0 : 2;
}
