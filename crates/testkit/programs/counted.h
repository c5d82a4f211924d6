/* Allocation calls that count themselves, so that a recording can be checked call by call.
 *
 * Every size is made by SIZE(n) and leaves 27 when divided by 64; the C library's own requests
 * practically never do, so a test can tell the program's events from the library's.
 * Counts go out through write() from a buffer on the stack: no stdio, no hidden allocation.
 */
#ifndef COUNTED_H
#define COUNTED_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE(n) ((size_t)(n) * 64 + 27)

static _Atomic unsigned long count_malloc, count_calloc, count_realloc, count_aligned, count_free;
static _Atomic unsigned long long count_bytes;

/* A wrong result must end the program loudly whatever the build's flags. */
static inline void require(int holds, const char *what) {
    if (holds) return;
    char line[160];
    int n = snprintf(line, sizeof line, "failed: %s\n", what);
    if (write(2, line, (size_t)n) < 0) _exit(98);
    _exit(99);
}

static inline void *counted(void *block, size_t size) {
    require(block != NULL, "allocation");
    count_bytes += size;
    memset(block, 0x5a, size < 64 ? size : 64);
    return block;
}

static inline void *take(size_t size) {
    count_malloc++;
    return counted(malloc(size), size);
}

static inline void *take_zeroed(size_t size) {
    count_calloc++;
    unsigned char *block = calloc(1, size);
    require(block != NULL && block[0] == 0 && block[size - 1] == 0, "calloc");
    return counted(block, size);
}

static inline void *resize(void *block, size_t size) {
    count_realloc++;
    return counted(realloc(block, size), size);
}

static inline void *take_aligned(size_t alignment, size_t size) {
    void *block = NULL;
    count_aligned++;
    require(posix_memalign(&block, alignment, size) == 0, "posix_memalign");
    require((size_t)block % alignment == 0, "alignment");
    return counted(block, size);
}

static inline void give(void *block) {
    if (block != NULL) count_free++;
    free(block);
}

/* One line on stdout: the calls of this process so far (a forked child calls reset_counts). */
static inline void print_counts(void) {
    char line[256];
    int n = snprintf(line, sizeof line,
                     "counts pid=%d malloc=%lu calloc=%lu realloc=%lu aligned=%lu free=%lu bytes=%llu\n",
                     (int)getpid(), count_malloc, count_calloc, count_realloc, count_aligned,
                     count_free, count_bytes);
    require(write(1, line, (size_t)n) == n, "write");
}

static inline void reset_counts(void) {
    count_malloc = count_calloc = count_realloc = count_aligned = count_free = 0;
    count_bytes = 0;
}
#endif
