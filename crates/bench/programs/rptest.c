// Shape of rptest: each thread holds a table of blocks of 16 to 16,000 bytes, exponentially
// fewer of the larger ones, replaces a part of it in each loop, and every few loops swaps
// batches with its neighbour, so that a third of the frees are of another thread's blocks.
#include "workload.h"

enum { THREADS = 2, SLOTS = 4096, BATCH = 256, MAILBOXES = 16 };

typedef struct {
    unsigned char *block[BATCH];
} batch_t;

static _Atomic(batch_t *) mailbox[MAILBOXES];
static long loops;
static _Atomic uint64_t total;

static unsigned char *take(rng_t *rng) {
    uint32_t bytes = 16u << rng_below(rng, 6);
    bytes += rng_below(rng, bytes);
    if (rng_below(rng, 64) == 0) bytes = 1000 + rng_below(rng, 15000);
    unsigned char *block = checked(malloc(bytes));
    block[0] = 1;
    block[bytes - 1] = 1;
    return block;
}

static void *work(void *argument) {
    long self = (long)argument;
    rng_t rng = rng_seeded(9 + (uint64_t)self);
    unsigned char **slot = checked(calloc(SLOTS, sizeof *slot));
    uint64_t taken = 0;
    for (long loop = 0; loop < loops; loop++) {
        for (int i = 0; i < SLOTS / 2; i++) {
            uint32_t at = rng_below(&rng, SLOTS);
            free(slot[at]);
            slot[at] = take(&rng);
            taken++;
        }
        batch_t *batch = checked(malloc(sizeof *batch));
        for (int i = 0; i < BATCH; i++) batch->block[i] = take(&rng);
        taken += BATCH;
        batch = atomic_exchange(&mailbox[rng_below(&rng, MAILBOXES)], batch);
        if (!batch) continue;
        for (int i = 0; i < BATCH; i++) free(batch->block[i]);
        free(batch);
    }
    for (int i = 0; i < SLOTS; i++) free(slot[i]);
    free(slot);
    total += taken;
    return NULL;
}

int main(int argc, char **argv) {
    loops = work_units(argc, argv) * 8;
    in_threads(THREADS, work);
    for (int i = 0; i < MAILBOXES; i++) {
        batch_t *batch = atomic_exchange(&mailbox[i], NULL);
        for (int k = 0; batch && k < BATCH; k++) free(batch->block[k]);
        free(batch);
    }
    printf("%llu\n", (unsigned long long)total);
    return 0;
}
