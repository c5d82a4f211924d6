// jemalloc's functions and control names, as a program linked with libjemalloc calls them.
#define _GNU_SOURCE
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#define CHECK(condition)                                                                          \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                               \
            exit(1);                                                                              \
        }                                                                                         \
    } while (0)

// Weak, so that the program links without libjemalloc.
#define WEAK __attribute__((weak))
void *mallocx(size_t, int) WEAK;
void *rallocx(void *, size_t, int) WEAK;
size_t xallocx(void *, size_t, size_t, int) WEAK;
size_t sallocx(const void *, int) WEAK;
void dallocx(void *, int) WEAK;
void sdallocx(void *, size_t, int) WEAK;
size_t nallocx(size_t, int) WEAK;
int mallctl(const char *, void *, size_t *, void *, size_t) WEAK;
int mallctlnametomib(const char *, size_t *, size_t *) WEAK;
int mallctlbymib(const size_t *, size_t, void *, size_t *, void *, size_t) WEAK;
void malloc_stats_print(void (*)(void *, const char *), void *, const char *) WEAK;
size_t malloc_usable_size(void *);

enum { ZERO = 0x40, ALIGN_256 = 8 };

static int is_zero(const unsigned char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (bytes[i]) return 0;
    return 1;
}

static void blocks(void) {
    for (size_t bytes = 1; bytes < 3000000; bytes = bytes * 3 + 1) {
        unsigned char *p = mallocx(bytes, 0);
        CHECK(p && sallocx(p, 0) >= bytes && sallocx(p, 0) == nallocx(bytes, 0));
        memset(p, 0xee, sallocx(p, 0));
        CHECK(xallocx(p, bytes, 0, 0) == sallocx(p, 0));
        sdallocx(p, bytes, 0);
        p = mallocx(bytes, ZERO | ALIGN_256);
        CHECK(p && (uintptr_t)p % 256 == 0 && is_zero(p, bytes));
        memset(p, 0xdd, sallocx(p, 0));
        size_t old = sallocx(p, 0);
        p = rallocx(p, bytes * 2 + 100, ZERO | ALIGN_256);
        CHECK(p && (uintptr_t)p % 256 == 0 && p[0] == 0xdd && p[old - 1] == 0xdd);
        CHECK(is_zero(p + old, sallocx(p, 0) - old));
        p = rallocx(p, 1, ALIGN_256);
        CHECK(p && p[0] == 0xdd && (uintptr_t)p % 256 == 0);
        dallocx(p, ALIGN_256);
    }
}

static size_t size_at(const char *name) {
    size_t value = 0, bytes = sizeof value;
    CHECK(mallctl(name, &value, &bytes, NULL, 0) == 0 && bytes == sizeof value);
    return value;
}

// What redis-server does for INFO memory, MEMORY PURGE and its background thread.
static void what_redis_asks(void) {
    uint64_t epoch = 1, before = 0;
    size_t bytes = sizeof epoch;
    CHECK(mallctl("epoch", &before, &bytes, NULL, 0) == 0);
    CHECK(mallctl("epoch", &epoch, &bytes, &epoch, bytes) == 0 && epoch == before + 1);
    size_t allocated = size_at("stats.allocated"), large = 30 << 20;
    char *p = malloc(large);
    memset(p, 1, large);
    CHECK(size_at("stats.allocated") >= allocated + large);
    CHECK(size_at("stats.active") >= size_at("stats.allocated"));
    CHECK(size_at("stats.resident") >= size_at("stats.active"));
    CHECK(size_at("stats.resident") < allocated + large + (20 << 20));
    free(p);
    CHECK(size_at("stats.allocated") < allocated + large);
    unsigned arenas = 0;
    bytes = sizeof arenas;
    CHECK(mallctl("arenas.narenas", &arenas, &bytes, NULL, 0) == 0 && arenas == 1);
    char name[40];
    snprintf(name, sizeof name, "arena.%u.purge", arenas);
    CHECK(mallctl(name, NULL, 0, NULL, 0) == 0);
    CHECK(size_at("stats.resident") < large);
    bool on = false;
    CHECK(mallctl("background_thread", NULL, 0, &on, sizeof on) == 0);
    on = true;
    CHECK(mallctl("background_thread", NULL, 0, &on, sizeof on) == ENOENT);
}

static void answers(void) {
    const char *version = NULL;
    size_t bytes = sizeof version;
    CHECK(mallctl("version", &version, &bytes, NULL, 0) == 0);
    CHECK(strncmp(version, "heapwright ", 11) == 0);
    CHECK(mallctl("version", NULL, NULL, &version, bytes) == EPERM);
    uint32_t small = 0;
    bytes = sizeof small;
    CHECK(mallctl("stats.allocated", &small, &bytes, NULL, 0) == EINVAL && bytes == sizeof small);
    CHECK(size_at("arenas.page") == (size_t)sysconf(_SC_PAGESIZE) && size_at("arenas.quantum") == 16);
    CHECK(mallctl("no.such.name", NULL, NULL, NULL, 0) == ENOENT);
    CHECK(mallctl("arena.7.purge", NULL, NULL, NULL, 0) == ENOENT);
    CHECK(mallctl("prof.active", NULL, NULL, NULL, 0) == ENOENT);
    size_t mib[4], depth = 4, value = 0;
    CHECK(mallctlnametomib("stats.arenas.0.pactive", mib, &depth) == 0 && depth == 4);
    bytes = sizeof value;
    mib[2] = 4096;
    void *live = malloc(100);
    CHECK(mallctlbymib(mib, depth, &value, &bytes, NULL, 0) == 0 && value > 0);
    free(live);
    mib[2] = 99;
    CHECK(mallctlbymib(mib, depth, &value, &bytes, NULL, 0) == ENOENT);
    CHECK(mallctlbymib(mib, 2, &value, &bytes, NULL, 0) == ENOENT);
    unsigned arena = 1;
    CHECK(mallctl("thread.arena", NULL, NULL, &arena, sizeof arena) == EFAULT);
    arena = 0;
    CHECK(mallctl("thread.arena", NULL, NULL, &arena, sizeof arena) == 0);
}

static char said[4096];
static void keep(void *count, const char *text) {
    ++*(int *)count;
    strncat(said, text, sizeof said - strlen(said) - 1);
}

static void figures_as_text(void) {
    int count = 0;
    malloc_stats_print(keep, &count, NULL);
    CHECK(count > 0 && strstr(said, "Begin heapwright statistics") && strstr(said, "Allocated: "));
    said[0] = 0;
    malloc_stats_print(keep, &count, "J");
    CHECK(strstr(said, "{\"jemalloc\":{\"version\":\"heapwright") == said && strstr(said, "}}}\n"));
}

// Blocks of the functions with flags and of the plain ones are the same allocator's.
static void blocks_of_both(void) {
    size_t allocated = size_at("stats.allocated"), bytes = 1 << 20;
    char *p = mallocx(bytes, 0);
    CHECK(malloc_usable_size(p) >= bytes && size_at("stats.allocated") >= allocated + bytes);
    p = realloc(p, 2 * bytes);
    CHECK(p);
    dallocx(p, 0);
    free(mallocx(100, ALIGN_256));
    sdallocx(malloc(100), 100, 0);
    free(rallocx(calloc(3, 100), 1000, ZERO));
    CHECK(size_at("stats.allocated") < allocated + bytes);
}

int main(int argc, char **argv) {
    CHECK(mallocx && rallocx && xallocx && sallocx && dallocx && sdallocx && nallocx && mallctl &&
          mallctlnametomib && mallctlbymib && malloc_stats_print);
    blocks();
    blocks_of_both();
    // Modes that keep freed memory back, and tell another version.
    if (argc > 1 && !strcmp(argv[1], "blocks")) {
        puts("conforms");
        return 0;
    }
    what_redis_asks();
    answers();
    figures_as_text();
    puts("conforms");
    return 0;
}
