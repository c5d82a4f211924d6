// Shape of mstress: threads allocate blocks of very different sizes with a bias to small ones,
// keep some, free some at once, and swap some through a common table, so that blocks are freed
// by other threads; then all threads end and new ones begin.
#include "workload.h"

enum { THREADS = 2, SHARED = 1000, KEPT = 12000 };

static _Atomic(uint64_t *) shared[SHARED];
static long round_index;
static _Atomic uint64_t total;

static uint64_t *take(rng_t *rng) {
    uint32_t words = 1u << rng_below(rng, 4);
    uint32_t dice = rng_below(rng, 1000);
    if (dice < 1)
        words *= 10000;
    else if (dice < 20)
        words *= 1000;
    else if (dice < 200)
        words *= 50;
    words += rng_below(rng, words);
    uint64_t *block = checked(malloc((size_t)words * 8));
    for (uint32_t i = 0; i < words; i++) block[i] = words;
    return block;
}
static uint64_t give(uint64_t *block) {
    if (!block) return 0;
    uint64_t words = block[0];
    if (block[words - 1] != words) {
        fputs("damaged block\n", stderr);
        exit(1);
    }
    free(block);
    return 1;
}

static void *stress(void *argument) {
    rng_t rng = rng_seeded(77 + (uint64_t)(long)argument * 1000 + (uint64_t)round_index);
    uint64_t *kept[KEPT];
    int count = 0;
    uint64_t taken = 0;
    for (int i = 0; i < 30000; i++) {
        uint32_t dice = rng_below(&rng, 100);
        if (dice < 50) {
            taken += 1;
            give(take(&rng));
        } else if (count == 0 || (dice < 75 && count < KEPT)) {
            taken += 1;
            kept[count++] = take(&rng);
        } else if (dice < 88) {
            uint32_t victim = rng_below(&rng, (uint32_t)count);
            give(kept[victim]);
            kept[victim] = kept[--count];
        } else {
            uint32_t victim = rng_below(&rng, (uint32_t)count);
            uint64_t *other = atomic_exchange(&shared[rng_below(&rng, SHARED)], kept[victim]);
            if (other)
                kept[victim] = other;
            else
                kept[victim] = kept[--count];
        }
    }
    while (count > 0) give(kept[--count]);
    total += taken;
    return NULL;
}

int main(int argc, char **argv) {
    long rounds = work_units(argc, argv);
    for (round_index = 0; round_index < rounds; round_index++) {
        in_threads(THREADS, stress);
        if (round_index % 8 == 7)
            for (int i = 0; i < SHARED; i++) give(atomic_exchange(&shared[i], NULL));
    }
    for (int i = 0; i < SHARED; i++) give(atomic_exchange(&shared[i], NULL));
    // How many blocks are taken depends on how the threads meet.
    puts(total > 0 ? "done" : "nothing");
    return 0;
}
