// Shape of malloc-large: 15 slots of blocks of 5 to 25 MiB; a random one is replaced and the new
// block is written whole.
#include "workload.h"

int main(int argc, char **argv) {
    enum { SLOTS = 15 };
    long rounds = work_units(argc, argv) * 10;
    rng_t rng = rng_seeded(42);
    unsigned char *slot[SLOTS] = {0};
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++) {
        uint32_t at = rng_below(&rng, SLOTS);
        size_t bytes = (5u << 20) + rng_below(&rng, 20u << 20);
        if (slot[at]) sum += slot[at][100];
        free(slot[at]);
        slot[at] = checked(malloc(bytes));
        memset(slot[at], (int)(round & 0xff), bytes);
    }
    for (int i = 0; i < SLOTS; i++) free(slot[i]);
    printf("%llu\n", (unsigned long long)sum);
    return 0;
}
