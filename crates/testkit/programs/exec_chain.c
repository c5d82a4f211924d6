/* Executes itself three times; each image makes 10 blocks more than the one before it and
 * prints its counts just before it is replaced. */
#include "counted.h"

int main(int argc, char **argv) {
    int step = argc > 1 ? atoi(argv[1]) : 0;
    for (int i = 0; i < 10 * (step + 1); i++) {
        void *block = take(SIZE(i));
        if (i % 2) give(block);
    }
    print_counts();
    if (step < 3) {
        char next[8];
        snprintf(next, sizeof next, "%d", step + 1);
        execl("/proc/self/exe", argv[0], next, (char *)NULL);
        require(0, "exec");
    }
    return 0;
}
