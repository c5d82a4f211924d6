// Shape of glibc's threaded benchmark: each thread replaces random blocks of a table of 1,024;
// sizes of 4 to 32,768 bytes, exponentially fewer of the larger ones. Second argument: threads,
// which share the work.
#include "workload.h"

enum { SLOTS = 1024 };

static long rounds;
static _Atomic uint64_t total;

static void *work(void *argument) {
    rng_t rng = rng_seeded(50 + (uint64_t)(long)argument);
    unsigned char *slot[SLOTS] = {0};
    uint64_t sum = 0;
    for (long i = 0; i < rounds; i++) {
        uint32_t at = rng_below(&rng, SLOTS);
        uint32_t least = 4u << __builtin_ctz(rng_next(&rng) | 1u << 12);
        uint32_t bytes = least + rng_below(&rng, least);
        if (slot[at]) sum += slot[at][0];
        free(slot[at]);
        slot[at] = checked(malloc(bytes));
        slot[at][0] = 1;
    }
    for (int i = 0; i < SLOTS; i++) free(slot[i]);
    total += sum;
    return NULL;
}

int main(int argc, char **argv) {
    int threads = argc > 2 ? atoi(argv[2]) : 2;
    rounds = work_units(argc, argv) * 200000 / threads;
    in_threads(threads, work);
    printf("%llu\n", (unsigned long long)total);
    return 0;
}
