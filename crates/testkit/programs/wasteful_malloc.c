/* A shared object over glibc's own allocator that asks for twice what it was asked for and
 * touches all of it: a stand-in for another allocator whose effect on memory is known. */
#include <stddef.h>
#include <string.h>

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void __libc_free(void *);

void *malloc(size_t size) {
    void *block = __libc_malloc(2 * size + 64);
    if (block != NULL) memset(block, 1, 2 * size + 64);
    return block;
}
void *calloc(size_t count, size_t size) { return __libc_calloc(count, size); }
void *realloc(void *block, size_t size) { return __libc_realloc(block, 2 * size + 64); }
void free(void *block) { __libc_free(block); }
