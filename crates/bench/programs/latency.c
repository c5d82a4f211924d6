// What one malloc and free cost. First argument: repeats; second: bytes; third: how many blocks
// are taken before they are freed (1: at once); fourth: `random` order of freeing instead of
// that of taking; or `each`: every pair is timed by itself and the percentiles are printed.
// Prints nanoseconds per pair: the least of the repeats.
#include "workload.h"
#include <time.h>

static double now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static double pairs(size_t bytes, long count) {
    double start = now_ns();
    for (long i = 0; i < count; i++) {
        volatile char *volatile block = malloc(bytes);
        block[0] = 1;
        free((void *)block);
    }
    return (now_ns() - start) / (double)count;
}

static double live(size_t bytes, int count, int is_random) {
    char **block = checked(malloc((size_t)count * sizeof *block));
    rng_t rng = rng_seeded(2);
    double start = now_ns();
    long rounds = 0;
    while (rounds < 3 || (rounds < 100 && now_ns() - start < 2e7)) {
        for (int i = 0; i < count; i++) *(block[i] = malloc(bytes)) = 1;
        if (is_random)
            for (int i = count - 1; i > 0; i--) {
                uint32_t other = rng_below(&rng, (uint32_t)i + 1);
                char *swap = block[i];
                block[i] = block[other];
                block[other] = swap;
            }
        for (int i = 0; i < count; i++) free(block[i]);
        rounds++;
    }
    double ns = (now_ns() - start) / (double)(rounds * count);
    free(block);
    return ns;
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

// A table of blocks of 16 to 16,000 bytes, each replacement timed; purging has its time too.
static void percentiles(long repeats) {
    enum { SLOTS = 20000 };
    long count = repeats * 100000;
    uint32_t *ns = checked(malloc((size_t)count * sizeof *ns));
    memset(ns, 0, (size_t)count * sizeof *ns);
    static char *slot[SLOTS];
    rng_t rng = rng_seeded(12);
    for (long i = 0; i < count; i++) {
        uint32_t at = rng_below(&rng, SLOTS);
        uint32_t least = 16u << __builtin_ctz(rng_next(&rng) | 1u << 9);
        uint32_t bytes = least + rng_below(&rng, least);
        double start = now_ns();
        free(slot[at]);
        slot[at] = malloc(bytes);
        double end = now_ns();
        slot[at][0] = 1;
        ns[i] = (uint32_t)(end - start);
    }
    qsort(ns, (size_t)count, sizeof *ns, by_value);
    printf("%u %u %u\n", ns[count / 2], ns[count / 100 * 99], ns[count / 1000 * 999]);
}

int main(int argc, char **argv) {
    long repeats = work_units(argc, argv);
    size_t bytes = argc > 2 ? (size_t)atol(argv[2]) : 16;
    int count = argc > 3 ? atoi(argv[3]) : 1;
    int is_random = argc > 4 && strcmp(argv[4], "random") == 0;
    if (argc > 4 && strcmp(argv[4], "each") == 0) {
        percentiles(repeats);
        return 0;
    }
    double least = 1e18;
    for (long repeat = 0; repeat < repeats; repeat++) {
        double ns = count > 1 ? live(bytes, count, is_random) : pairs(bytes, 1000000);
        if (ns < least) least = ns;
    }
    printf("%.3f\n", least);
    return 0;
}
