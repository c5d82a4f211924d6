/* A shared object whose malloc aborts: every program that preloads it ends. */
#include <stddef.h>
#include <stdlib.h>

__attribute__((constructor)) static void die(void) { abort(); }
void *malloc(size_t size) {
    (void)size;
    abort();
}
void free(void *block) { (void)block; }
