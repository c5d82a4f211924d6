// An allocator that gives memory back by the clock: a freed large block stays for half a second,
// then goes with whatever call comes next. It never uses one again; small blocks are never freed.
#define _GNU_SOURCE
#include <stddef.h>
#include <sys/mman.h>
#include <time.h>

enum { LARGE = 1 << 16, WAITING_MAX = 4096 };

static _Alignas(16) char arena[64 << 20];
static size_t used;
static struct { void *start; size_t bytes; double at; } waiting[WAITING_MAX];
static int first, last;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}

static void give_back(void) {
    double long_ago = now() - 0.5;
    for (; first < last && waiting[first].at < long_ago; first++)
        munmap(waiting[first].start, waiting[first].bytes);
}

void *malloc(size_t size) {
    size_t whole = (size + 31) & ~(size_t)15;
    char *start;
    if (whole < LARGE) {
        size_t at = __atomic_fetch_add(&used, whole, __ATOMIC_RELAXED);
        if (at + whole > sizeof arena) return NULL;
        start = arena + at;
    } else {
        give_back();
        start = mmap(NULL, whole, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (start == MAP_FAILED) return NULL;
    }
    *(size_t *)start = whole - 16;
    return start + 16;
}

void free(void *block) {
    if (!block) return;
    size_t *start = (size_t *)((char *)block - 16);
    if (*start + 16 < LARGE || last == WAITING_MAX) return;
    waiting[last].start = start;
    waiting[last].bytes = *start + 16;
    waiting[last++].at = now();
}

#include "derived.h"
