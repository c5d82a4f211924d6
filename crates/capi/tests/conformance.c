// Every exported C function and its edges. Prints the line that failed and exits with 1.
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                          \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                               \
            exit(1);                                                                              \
        }                                                                                         \
    } while (0)

extern void *__libc_malloc(size_t);
extern void __libc_free(void *);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void *__libc_memalign(size_t, size_t);
void free_sized(void *, size_t) __attribute__((weak));
void free_aligned_sized(void *, size_t, size_t) __attribute__((weak));

// The compiler must not reason about sizes.
static volatile size_t huge = (size_t)PTRDIFF_MAX + 1;
static volatile size_t half = (size_t)1 << 33;

static int is_aligned(void *block, size_t align) { return ((uintptr_t)block & (align - 1)) == 0; }

static int is_zero(const unsigned char *bytes, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (bytes[i]) return 0;
    return 1;
}

static void plain(void) {
    void *a = malloc(0), *b = malloc(0);
    CHECK(a && b && a != b);
    free(a);
    free(b);
    free(NULL);
    errno = 0;
    CHECK(malloc(huge) == NULL && errno == ENOMEM);
    for (size_t size = 1; size < 300000; size = size * 5 / 4 + 1) {
        unsigned char *p = malloc(size);
        CHECK(p && is_aligned(p, 16));
        size_t usable = malloc_usable_size(p);
        CHECK(usable >= size);
        memset(p, 0x5a, usable);
        unsigned char *q = realloc(p, usable + 1);
        CHECK(q && q[0] == 0x5a && q[usable - 1] == 0x5a);
        free(q);
    }
    CHECK(malloc_usable_size(NULL) == 0);
}

static void zeroed(void) {
    for (int round = 0; round < 3; round++)
        for (size_t size = 1; size < 9000000; size = size * 3 + 1) {
            unsigned char *p = calloc(1, size);
            CHECK(p && is_zero(p, size));
            memset(p, 0xff, malloc_usable_size(p));
            free(p);
        }
    errno = 0;
    CHECK(calloc(half, half) == NULL && errno == ENOMEM);
    void *none = calloc(0, 8);
    CHECK(none);
    free(none);
}

static void resized(void) {
    char *p = realloc(NULL, 10);
    CHECK(p);
    strcpy(p, "contents");
    errno = 0;
    CHECK(realloc(p, huge) == NULL && errno == ENOMEM);
    CHECK(strcmp(p, "contents") == 0);
    errno = 0;
    CHECK(reallocarray(p, half, half) == NULL && errno == ENOMEM);
    p = reallocarray(p, 100, 100);
    CHECK(p && strcmp(p, "contents") == 0);
    p = realloc(p, 9);
    CHECK(p && strcmp(p, "contents") == 0);
    size_t size = 9;
    while (size < (size_t)48 << 20) {
        size = size * 2;
        p = realloc(p, size);
        CHECK(p && strcmp(p, "contents") == 0);
        memset(p + 9, 1, size - 9);
    }
    p = realloc(p, 9);
    CHECK(p && strcmp(p, "contents") == 0);
    free(p);
}

static void aligned(void) {
    void *p = (void *)1;
    CHECK(posix_memalign(&p, 3, 8) == EINVAL && p == (void *)1);
    CHECK(posix_memalign(&p, 4, 8) == EINVAL && p == (void *)1);
    CHECK(posix_memalign(&p, 0, 8) == EINVAL && p == (void *)1);
    CHECK(posix_memalign(&p, 64, huge) == ENOMEM && p == (void *)1);
    errno = 0;
    CHECK(aligned_alloc(48, 96) == NULL && errno == EINVAL);
    for (size_t align = 8; align <= (size_t)1 << 24; align *= 2)
        for (size_t size = 0; size < 200000; size = size * 7 + 13) {
            CHECK(posix_memalign(&p, align, size) == 0 && p && is_aligned(p, align));
            CHECK(malloc_usable_size(p) >= size);
            memset(p, 1, malloc_usable_size(p));
            void *q = aligned_alloc(align, size);
            CHECK(q && is_aligned(q, align));
            void *r = memalign(align, size);
            CHECK(r && is_aligned(r, align));
            q = realloc(q, size + 100);
            CHECK(q);
            free(p);
            free(q);
            free(r);
        }
    p = memalign(24, 100);
    CHECK(p && is_aligned(p, 32));
    free(p);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    p = valloc(100);
    CHECK(p && is_aligned(p, page));
    free(p);
    p = pvalloc(100);
    CHECK(p && is_aligned(p, page) && malloc_usable_size(p) >= page);
    free(p);
    errno = 0;
    CHECK(pvalloc(SIZE_MAX) == NULL && errno == ENOMEM);
}

static void doubles(void) {
    void *p = __libc_malloc(100);
    p = realloc(p, 5000);
    __libc_free(p);
    p = malloc(100);
    p = __libc_realloc(p, 6000);
    free(p);
    p = __libc_calloc(10, 10);
    CHECK(is_zero(p, 100));
    free(p);
    p = __libc_memalign(4096, 10);
    CHECK(is_aligned(p, 4096));
    free(p);
    CHECK(free_sized && free_aligned_sized);
    free_sized(malloc(77), 77);
    free_aligned_sized(aligned_alloc(256, 512), 256, 512);
}

void *reallocf(void *, size_t) __attribute__((weak));
int reallocarr(void *, size_t, size_t) __attribute__((weak));
size_t malloc_size(const void *) __attribute__((weak));
size_t malloc_good_size(size_t) __attribute__((weak));

static void of_other_systems(void) {
    CHECK(reallocf && reallocarr && malloc_size && malloc_good_size);
    char *p = reallocf(NULL, 20);
    CHECK(p);
    strcpy(p, "contents");
    p = reallocf(p, 40000);
    CHECK(p && strcmp(p, "contents") == 0);
    size_t live = mallinfo2().uordblks + mallinfo2().hblkhd;
    errno = 0;
    CHECK(reallocf(p, huge) == NULL && errno == ENOMEM);
    CHECK(mallinfo2().uordblks + mallinfo2().hblkhd + 40000 <= live);
    p = NULL;
    errno = 77;
    CHECK(reallocarr(&p, 10, 10) == 0 && p && errno == 77);
    memset(p, 3, 100);
    void *before = p;
    CHECK(reallocarr(&p, half, half) == EOVERFLOW && p == before && p[99] == 3);
    CHECK(reallocarr(&p, huge, 1) == ENOMEM && p == before && p[99] == 3 && errno == 77);
    CHECK(reallocarr(&p, 1000, 100) == 0 && p[99] == 3);
    CHECK(reallocarr(&p, 0, 100) == 0 && p == NULL);
    for (size_t size = 1; size < 3000000; size = size * 3 + 2) {
        p = malloc(size);
        CHECK(malloc_size(p) == malloc_usable_size(p) && malloc_good_size(size) == malloc_size(p));
        free(p);
    }
    CHECK(malloc_size(NULL) == 0 && malloc_good_size(huge) == huge);
}

// All that must fail, without a change of what there was and with the right errno.
static void limits(void) {
    static volatile size_t most = PTRDIFF_MAX, all = SIZE_MAX;
    size_t sizes[] = {most + 1, all, all - 15, all - 4095, most};
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i];
        errno = 0;
        CHECK(malloc(size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(calloc(size, 1) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(calloc(1, size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(realloc(NULL, size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(aligned_alloc(64, size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(memalign(1 << 20, size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(valloc(size) == NULL && errno == ENOMEM);
        errno = 0;
        CHECK(pvalloc(size) == NULL && errno == ENOMEM);
    }
    // Products that wrap to something small.
    errno = 0;
    CHECK(calloc((size_t)1 << 63, 2) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(calloc(all / 3 + 1, 3) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(reallocarray(NULL, all / 3 + 1, 3) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(memalign(all, 1) == NULL && (errno == EINVAL || errno == ENOMEM));
    errno = 0;
    CHECK(memalign((size_t)1 << 63, 1) == NULL && (errno == EINVAL || errno == ENOMEM));
    void *p = (void *)1;
    errno = 55;
    CHECK(posix_memalign(&p, (size_t)1 << 62, 1) == ENOMEM && p == (void *)1 && errno == 55);
}

// realloc to 0 frees and gives NULL, as glibc's; to anything else keeps what fits.
static void realloc_to_nothing(void) {
    for (size_t size = 1; size < 3000000; size = size * 9 + 1) {
        errno = 9;
        CHECK(realloc(malloc(size), 0) == NULL && errno == 9);
        CHECK(reallocarray(malloc(size), 0, 5) == NULL && reallocarray(malloc(size), 5, 0) == NULL);
    }
    void *p = realloc(NULL, 0);
    CHECK(p);
    free(p);
}

static void errno_is_kept(void) {
    void *small = malloc(100), *large = malloc(100 << 20);
    memset(large, 1, 100 << 20);
    errno = 1234;
    free(small);
    free(large);
    CHECK(errno == 1234);
    void *p = malloc(10);
    CHECK(errno == 1234);
    free(p);
}

static void numbers(void) {
    void *large = malloc(10 << 20);
    struct mallinfo2 wide = mallinfo2();
    CHECK(wide.hblks >= 1 && wide.hblkhd >= (10 << 20));
    void *more = malloc(7 << 20);
    CHECK(mallinfo2().hblkhd >= wide.hblkhd + (7 << 20));
    free(more);
    CHECK(mallinfo2().hblkhd == wide.hblkhd);
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
    CHECK((size_t)mallinfo().hblkhd == wide.hblkhd);
    free(large);
    malloc_trim(0);
    CHECK(mallinfo2().keepcost == 0);
    char text[4096];
    FILE *out = fmemopen(text, sizeof text, "w");
    CHECK(malloc_info(0, out) == 0);
    fclose(out);
    CHECK(strstr(text, "<malloc version=\"1\">") && strstr(text, "</malloc>"));
    CHECK(malloc_info(1, stdout) == -1 && errno == EINVAL);
    mallopt(M_ARENA_MAX, 1);
}

static void trim_gives_memory_back(void) {
    enum { COUNT = 4000 };
    static char *blocks[COUNT];
    for (int i = 0; i < COUNT; i++) memset(blocks[i] = malloc(5000), 1, 5000);
    unsigned char resident[2];
    void *page = (void *)((uintptr_t)(blocks[COUNT / 2] + 4095) & ~(uintptr_t)4095);
    CHECK(mincore(page, 1, resident) == 0 && (resident[0] & 1));
    for (int i = 0; i < COUNT; i++) free(blocks[i]);
    CHECK(malloc_trim(0) == 1);
    CHECK(mincore(page, 1, resident) != 0 || !(resident[0] & 1));
}

static void *churn(void *argument) {
    unsigned long seed = (unsigned long)argument * 2654435761u + 1;
    void *slots[100] = {0};
    for (int i = 0; i < 20000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        int slot = (int)((seed >> 33) % 100);
        free(slots[slot]);
        slots[slot] = malloc((seed >> 40) % 3000);
    }
    for (int i = 0; i < 100; i++) free(slots[i]);
    return malloc(64);
}

static void threads_and_forks(void) {
    for (int round = 0; round < 10; round++) {
        pthread_t threads[4];
        for (long i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, churn, (void *)i) == 0);
        pid_t children[5];
        for (int i = 0; i < 5; i++)
            if ((children[i] = fork()) == 0) {
                free(churn((void *)9));
                _exit(7);
            }
        for (int i = 0; i < 5; i++) {
            int status = 0;
            CHECK(waitpid(children[i], &status, 0) == children[i]);
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
        }
        for (int i = 0; i < 4; i++) {
            void *block;
            CHECK(pthread_join(threads[i], &block) == 0);
            free(block);
        }
    }
}

static void *at_exit_block;
static void at_exit(void) {
    free(at_exit_block);
    CHECK(malloc(100));
}

__attribute__((constructor)) static void before_main(void) { at_exit_block = malloc(1000); }
__attribute__((destructor)) static void after_main(void) { free(malloc(100)); }

int main(void) {
    alarm(120);
    CHECK(at_exit_block);
    atexit(at_exit);
    plain();
    zeroed();
    resized();
    aligned();
    doubles();
    of_other_systems();
    limits();
    realloc_to_nothing();
    errno_is_kept();
    numbers();
    trim_gives_memory_back();
    threads_and_forks();
    puts("conforms");
    return 0;
}
