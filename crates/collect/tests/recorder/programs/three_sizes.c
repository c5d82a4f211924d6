/* Blocks of three sizes, each from its own function, a quarter of them kept: for sampling. */
#include "counted.h"

#define SITE __attribute__((noinline)) static
SITE void *small(void) { return take(SIZE(0)); }
SITE void *middle(void) { return take(SIZE(16)); }
SITE void *big(void) { return take(SIZE(1024)); }

int main(void) {
    for (int i = 0; i < 400000; i++) {
        void *block = small();
        if (i % 4) give(block);
    }
    for (int i = 0; i < 40000; i++) {
        void *block = middle();
        if (i % 4) give(block);
    }
    for (int i = 0; i < 1000; i++) {
        void *block = big();
        if (i % 4) give(block);
    }
    print_counts();
    return 0;
}
