// Shape of cache-scratch and cache-thrash: threads write the bytes of small blocks again and
// again. Second argument: threads; third: the first blocks come from the main thread (scratch),
// so that an allocator that gives neighbours to two threads makes them share lines.
#include "workload.h"

enum { BYTES = 8, WRITES = 2000 };

static long rounds;
static unsigned char *first[64];
static _Atomic uint64_t total;

static void *work(void *argument) {
    long self = (long)argument;
    uint64_t sum = 0;
    free(first[self]);
    for (long round = 0; round < rounds; round++) {
        volatile unsigned char *block = checked(malloc(BYTES));
        for (int i = 0; i < WRITES; i++) block[i % BYTES] = (unsigned char)(block[i % BYTES] + i);
        sum += block[0] != 0;
        free((void *)block);
    }
    total += sum > 0;
    return NULL;
}

int main(int argc, char **argv) {
    int threads = argc > 2 ? atoi(argv[2]) : 1;
    rounds = work_units(argc, argv) * 1000 / threads;
    if (argc > 3)
        for (int i = 0; i < threads; i++) first[i] = checked(malloc(BYTES));
    in_threads(threads, work);
    printf("%llu\n", (unsigned long long)total);
    return 0;
}
