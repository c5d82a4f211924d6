// Shape of the batch benchmarks (sh6bench, sh8bench): runs of equal small blocks of rising size
// go into a ring as long as the live set; the oldest run is freed in order, in reverse, or every
// second block first. With a third argument the rings are swapped between threads, so that a
// run is freed by a thread that did not allocate it.
#include "workload.h"

enum { THREADS = 2, RUN = 500, RUNS_MAX = 1024 };

typedef struct {
    unsigned char *block[RUN];
} run_t;

static long rounds;
static int run_count, crosses;
static _Atomic(run_t *) ring[THREADS][RUNS_MAX];

static void fill(run_t *run, uint32_t bytes) {
    for (int i = 0; i < RUN; i++) {
        run->block[i] = checked(malloc(bytes));
        run->block[i][0] = 1;
        run->block[i][bytes - 1] = 1;
    }
}
static void empty(run_t *run, uint32_t order) {
    if (order == 0)
        for (int i = 0; i < RUN; i++) free(run->block[i]);
    else if (order == 1)
        for (int i = RUN - 1; i >= 0; i--) free(run->block[i]);
    else
        for (int odd = 0; odd < 2; odd++)
            for (int i = odd; i < RUN; i += 2) free(run->block[i]);
}

static void *work(void *argument) {
    long self = (long)argument;
    rng_t rng = rng_seeded(3 + (uint64_t)self);
    for (long round = 0; round < rounds; round++)
        for (int i = 0; i < run_count; i++) {
            long side = crosses ? (self + round) % THREADS : self;
            uint32_t bytes = 8 + rng_below(&rng, crosses ? 400 : 200);
            if (rng_below(&rng, 50) == 0) bytes = 600 + rng_below(&rng, 400);
            run_t *run = atomic_exchange(&ring[side][i], NULL);
            if (run)
                empty(run, rng_below(&rng, 3));
            else
                run = checked(malloc(sizeof *run));
            fill(run, bytes);
            run = atomic_exchange(&ring[side][i], run);
            if (!run) continue;
            empty(run, 0);
            free(run);
        }
    return NULL;
}

int main(int argc, char **argv) {
    rounds = work_units(argc, argv);
    run_count = argc > 2 ? atoi(argv[2]) : 400;
    crosses = argc > 3;
    in_threads(THREADS, work);
    long left = 0;
    for (int side = 0; side < THREADS; side++)
        for (int i = 0; i < run_count; i++) {
            run_t *run = ring[side][i];
            if (run) empty(run, 1), left++;
            free(run);
        }
    printf("%ld\n", left);
    return 0;
}
