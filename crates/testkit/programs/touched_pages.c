/* A block of 8 MiB of which OS pages 0 to 9 and every sixteenth after page 100 are written,
 * and one of 4 MiB never touched beyond its head. */
#include "counted.h"

int main(void) {
    size_t size = SIZE(8 * 1024 * 1024 / 64), page = 4096;
    char *block = take(size);
    char *cold = take(SIZE(4 * 1024 * 1024 / 64));
    unsigned touched = 0;
    for (size_t i = 0; i * page + page <= size; i++) {
        if (i < 10 || (i > 100 && i % 16 == 0)) {
            block[i * page + 8] = 1;
            touched++;
        }
    }
    char line[64];
    int n = snprintf(line, sizeof line, "touched %u\n", touched);
    require(write(1, line, (size_t)n) == n, "write");
    give(block);
    give(cold);
    print_counts();
    return 0;
}
