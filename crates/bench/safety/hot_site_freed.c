// A hot site: COUNT blocks from one place, one after the other, each freed before the next is made,
// and a read from block number WHICH after its free.
#include "twin.h"

__attribute__((noinline)) static char *one(size_t bytes) { return (char *)malloc(bytes); }

int main(int argc, char **argv) {
    size_t count = argc > 1 ? strtoull(argv[1], 0, 10) : 1000;
    size_t which = argc > 2 ? strtoull(argv[2], 0, 10) : 0;
    for (size_t i = 0; i < count; i++) {
        char *block = one(48);
        block[0] = 1;
        free(block);
        if (i == which) sink = block[24];
    }
    return 0;
}
