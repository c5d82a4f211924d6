// What follows from `malloc` and `free` where each block lies 16 bytes behind its size and memory
// is zero at first.
#include <stddef.h>
#include <string.h>

void *calloc(size_t count, size_t size) { return malloc(count * size); }

size_t malloc_usable_size(void *block) { return block ? *(size_t *)((char *)block - 16) : 0; }

void *realloc(void *block, size_t size) {
    void *other = malloc(size);
    size_t old = malloc_usable_size(block);
    if (other && block) memcpy(other, block, old < size ? old : size);
    free(block);
    return other;
}
