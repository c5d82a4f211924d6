/* An executable that exports an allocator which maps its arena at the first call and cannot be
   called again meanwhile, as jemalloc linked into a program. The first call comes from the
   constructor of a library (EARLY), before any other object had its turn. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef EARLY
__attribute__((constructor)) static void early(void) { free(malloc(10)); }
#else

enum { BYTES = 1 << 24 };
static char *arena;
static size_t used;
static int starting;

void *malloc(size_t size) {
    if (arena == NULL) {
        if (starting) {
            (void)!write(1, "called again inside of itself\n", 30);
            _exit(3);
        }
        starting = 1;
        arena = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        starting = 0;
        if (arena == MAP_FAILED) _exit(4);
    }
    size_t start = used;
    used += (size + 31) & ~15ul;
    if (used > BYTES) return NULL;
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
    return write(1, "fine\n", 5) == 5 ? 0 : 2;
}
#endif
