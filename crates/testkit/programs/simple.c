/* 1000 mallocs, 990 frees, ten blocks left: the smallest program worth recording. */
#include "counted.h"

int main(void) {
    static void *blocks[1000];
    for (int i = 0; i < 1000; i++) blocks[i] = take(SIZE(i % 20));
    for (int i = 0; i < 990; i++) give(blocks[i]);
    print_counts();
    return 0;
}
