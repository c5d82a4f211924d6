// Shape of glibc's simple benchmark: for one size after another, batches of 25, 100, 400 and
// 1,600 blocks are taken and freed in the order of taking.
#include "workload.h"

int main(int argc, char **argv) {
    enum { MOST = 1600 };
    long rounds = work_units(argc, argv);
    static const int sizes[] = {8, 16, 24, 32, 48, 64, 128, 256, 512, 1024};
    static const int counts[] = {25, 100, 400, MOST};
    static unsigned char *block[MOST];
    uint64_t sum = 0;
    for (long round = 0; round < rounds; round++)
        for (unsigned s = 0; s < sizeof sizes / sizeof *sizes; s++)
            for (unsigned c = 0; c < sizeof counts / sizeof *counts; c++) {
                if (sizes[s] * counts[c] > 400000) continue;
                for (int repeat = 0; repeat < MOST / counts[c]; repeat++) {
                    for (int i = 0; i < counts[c]; i++) {
                        block[i] = checked(malloc((size_t)sizes[s]));
                        block[i][0] = 1;
                    }
                    for (int i = 0; i < counts[c]; i++) {
                        sum += block[i][0];
                        free(block[i]);
                    }
                }
            }
    printf("%llu\n", (unsigned long long)sum);
    return 0;
}
