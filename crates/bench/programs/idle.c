// What stays resident when a program comes to rest: blocks are made and mostly freed, then all
// threads sleep for a second and a half without a call into the allocator.
//   idle RUNS frees      a thread that never allocates frees what another made
//   idle RUNS threads    eight threads have each filled and emptied their caches
//   idle RUNS churn      a thousand threads have come and gone
// A sixteenth of the blocks stays live. Prints live KiB, resident KiB and the threads left.
#include "workload.h"
#include <unistd.h>

enum { BLOCKS = 60000, KEEP = 16, THREADS_MAX = 9 };

static _Atomic long live_bytes;
static pthread_barrier_t rested;
static unsigned char **handed;

static unsigned char *take(rng_t *rng) {
    uint32_t bytes = 32 + rng_below(rng, 4000);
    unsigned char *block = checked(malloc(bytes));
    memset(block, 1, bytes);
    return block;
}

static void make_and_free(uint64_t seed, int count) {
    rng_t rng = rng_seeded(seed);
    unsigned char **block = checked(malloc((size_t)count * sizeof *block));
    for (int i = 0; i < count; i++) block[i] = take(&rng);
    // Kept blocks lie together: what is free can be whole pages.
    int kept = count / KEEP;
    for (int i = kept; i < count; i++) free(block[i]);
    live_bytes += (long)kept * 2032;
    handed = block;
}

static void *sleeps(void *argument) {
    make_and_free(7 + (uint64_t)(long)argument, BLOCKS / 8);
    pthread_barrier_wait(&rested);
    pthread_barrier_wait(&rested);
    return NULL;
}
static void *brief(void *argument) {
    make_and_free(9 + (uint64_t)(long)argument, 160);
    return NULL;
}
static void *only_frees(void *argument) {
    unsigned char **block = argument;
    for (int i = BLOCKS / KEEP; i < BLOCKS; i++) free(block[i]);
    pthread_barrier_wait(&rested);
    pthread_barrier_wait(&rested);
    return NULL;
}

static long resident_kib(void) {
    return kib_of("/proc/self/smaps_rollup", "Private_Dirty: %ld");
}

int main(int argc, char **argv) {
    const char *how = argc > 2 ? argv[2] : "frees";
    pthread_t thread[THREADS_MAX];
    int count = 0;
    long before = resident_kib();
    if (strcmp(how, "churn") == 0) {
        for (long i = 0; i < 1000; i++) {
            pthread_create(&thread[0], NULL, brief, (void *)i);
            pthread_join(thread[0], NULL);
        }
    } else if (strcmp(how, "threads") == 0) {
        count = 8;
        pthread_barrier_init(&rested, NULL, 9);
        for (long i = 0; i < count; i++) pthread_create(&thread[i], NULL, sleeps, (void *)i);
    } else {
        count = 1;
        pthread_barrier_init(&rested, NULL, 2);
        rng_t rng = rng_seeded(3);
        unsigned char **block = checked(malloc(BLOCKS * sizeof *block));
        for (int i = 0; i < BLOCKS; i++) block[i] = take(&rng);
        live_bytes += (long)(BLOCKS / KEEP) * 2032;
        pthread_create(&thread[0], NULL, only_frees, block);
    }
    if (count) pthread_barrier_wait(&rested);
    usleep(1500000);
    long resident = resident_kib() - before;
    if (count) pthread_barrier_wait(&rested);
    for (int i = 0; i < count; i++) pthread_join(thread[i], NULL);
    printf("%ld %ld %d\n", live_bytes / 1024, resident, count);
    return 0;
}
