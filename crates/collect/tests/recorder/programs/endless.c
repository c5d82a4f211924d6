/* 3000 blocks, each from one call deeper than the one before. */
#include "counted.h"

static void *blocks[3000];

__attribute__((noinline)) static void down(int depth) {
    if (depth == 3000) return;
    blocks[depth] = take(SIZE(depth % 4));
    down(depth + 1);
    give(blocks[depth]);
}

int main(void) {
    down(0);
    return 0;
}
