// Shape of alloc-test: one table of slots per thread, a random slot each time: freed if taken,
// else filled with a block of random size, Pareto-like. The second argument is the threads.
#include "workload.h"

enum { SLOTS = 1 << 17 };

static long rounds;
static _Atomic uint64_t total;

// Most are small: the size class is the number of leading ones of a random word.
static uint32_t size_of(rng_t *rng) {
    uint32_t word = rng_next(rng);
    uint32_t shift = word == UINT32_MAX ? 31 : (uint32_t)__builtin_clz(~word);
    if (shift > 6) shift = 6;
    return (16u << shift) / 2 + rng_below(rng, 16u << shift);
}

static void *work(void *argument) {
    rng_t rng = rng_seeded(100 + (uint64_t)(long)argument);
    unsigned char **slot = checked(calloc(SLOTS, sizeof *slot));
    uint64_t sum = 0;
    for (long i = 0; i < rounds; i++) {
        uint32_t at = rng_below(&rng, SLOTS);
        if (slot[at]) {
            sum += slot[at][0];
            free(slot[at]);
            slot[at] = NULL;
        } else {
            uint32_t bytes = size_of(&rng);
            slot[at] = checked(malloc(bytes));
            memset(slot[at], (int)(bytes & 0xff), bytes);
        }
    }
    for (int i = 0; i < SLOTS; i++) free(slot[i]);
    free(slot);
    total += sum;
    return NULL;
}

int main(int argc, char **argv) {
    rounds = work_units(argc, argv) * 100000;
    in_threads(argc > 2 ? atoi(argv[2]) : 1, work);
    printf("%llu\n", (unsigned long long)total);
    return 0;
}
