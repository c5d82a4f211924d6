/* An allocator that fails after some calls: by abort, or by sleeping for good with HANG. */
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void __libc_free(void *);
static long calls;

void *malloc(size_t size) {
    if (__sync_add_and_fetch(&calls, 1) > 20000) {
#ifdef HANG
        for (;;) pause();
#else
        abort();
#endif
    }
    return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) { return __libc_calloc(count, size); }
void *realloc(void *block, size_t size) { return __libc_realloc(block, size); }
void free(void *block) { __libc_free(block); }
