/* A shared object with an allocator that never reuses memory and may be interrupted anywhere. */
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>

#define BYTES (1ul << 34)
static char *start;
static size_t used;

__attribute__((constructor)) static void reserve(void) {
    if (start == NULL)
        start = mmap(NULL, BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}
void *malloc(size_t size) {
    if (start == NULL) reserve();
    size_t at = __atomic_fetch_add(&used, (size + 31) & ~15ul, __ATOMIC_RELAXED);
    if (at + size + 32 > BYTES) return NULL;
    *(size_t *)(start + at) = size;
    return start + at + 16;
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
