// Shape of mleak: many short threads, one after the other, each with a few blocks; an allocator
// that leaves something behind for each thread grows.
#include "workload.h"

static void *work(void *argument) {
    enum { BLOCKS = 24 };
    void *block[BLOCKS];
    for (int i = 0; i < BLOCKS; i++) *(long *)(block[i] = checked(malloc(16u << (i % 8)))) = i;
    for (int i = 0; i < BLOCKS; i++) free(block[i]);
    return argument;
}

int main(int argc, char **argv) {
    long rounds = work_units(argc, argv) * 100;
    for (long round = 0; round < rounds; round++) in_threads(1, work);
    printf("%ld\n", rounds);
    return 0;
}
