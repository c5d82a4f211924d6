/* Allocates, prints its counts, then writes to address 0 (or aborts, with argument `abort`). */
#include "counted.h"

int main(int argc, char **argv) {
    for (int i = 0; i < 1000; i++) {
        void *block = take(SIZE(i % 30));
        if (i % 4) give(block);
    }
    print_counts();
    if (argc > 1 && strcmp(argv[1], "abort") == 0) abort();
    *(volatile int *)0 = 1;
    return 0;
}
