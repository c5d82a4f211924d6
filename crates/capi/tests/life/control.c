/* What a program may ask of the preloaded object by name. Prints "conforms" with it, "without" if
 * it is not there. */
#include "heapwright.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(what)                                                \
    do {                                                           \
        if (!(what)) {                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #what); \
            exit(1);                                               \
        }                                                          \
    } while (0)

struct sought {
    uintptr_t address;
    size_t found_bytes, count;
};

static bool visit(void *context, void *start, size_t usable_bytes, uint64_t heap, int size_class) {
    struct sought *sought = context;
    /* The receiver may allocate. */
    free(malloc(10));
    sought->count++;
    if ((uintptr_t)start == sought->address) {
        CHECK(sought->found_bytes == 0 && heap == 0 && size_class >= 0);
        sought->found_bytes = usable_bytes;
    }
    return true;
}

int main(void) {
    if (heapwright_set_option == NULL) {
        puts("without");
        return 0;
    }
    size_t value = 0;
    CHECK(heapwright_option("soft_limit", &value) == 0 && value == (size_t)3 << 20);
    CHECK(heapwright_set_option("soft_limit", "none") == 0);
    CHECK(heapwright_option("soft_limit", &value) == 0 && value == SIZE_MAX);
    CHECK(heapwright_set_option("soft_limit", "x") == EINVAL);
    CHECK(heapwright_set_option("soft", "1") == ENOENT && heapwright_option("soft", &value) == ENOENT);
    CHECK(heapwright_set_option("numa", "1") == EBUSY);
    CHECK(heapwright_set_option(NULL, "1") == EINVAL && heapwright_option("numa", NULL) == EINVAL);

    void *block = malloc(1000);
    struct sought sought = {.address = (uintptr_t)block};
    CHECK(heapwright_walk(visit, &sought) == 0);
    CHECK(sought.found_bytes == malloc_usable_size(block) && sought.count >= 1);
    free(block);
    sought.found_bytes = 0;
    CHECK(heapwright_walk(visit, &sought) == 0 && sought.found_bytes == 0);
    CHECK(heapwright_walk(NULL, NULL) == EINVAL);

    CHECK(mallopt(-101 /* bionic's M_PURGE */, 0) == 1);
    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1 && mallopt(M_ARENA_MAX, 1) == 1);
    CHECK(mallopt(M_TRIM_THRESHOLD, -1) == 1 && mallopt(M_TOP_PAD, 1 << 20) == 1);
    CHECK(mallopt(M_PERTURB, 0xa5) == 0 && mallopt(12345, 1) == 0);
    puts("conforms");
    return 0;
}
