/* Allocates at recursion depths 1 to 400 through three functions with different frames. */
#include "counted.h"

static void *blocks[401];
static void descend_a(int depth);

__attribute__((noinline)) static void descend_c(int depth) {
    char frame[(depth % 5 + 1) * 16]; /* a frame whose size is known at run time only */
    memset(frame, depth, sizeof frame);
    descend_a(depth);
    require(frame[0] == (char)depth, "frame");
}

__attribute__((noinline)) static void descend_b(int depth) {
    volatile double frame[8] = {depth};
    descend_c(depth);
    require(frame[0] == depth, "frame");
}

__attribute__((noinline)) static void descend_a(int depth) {
    if (depth > 400) return;
    blocks[depth] = take(SIZE(depth % 10));
    if (depth % 2) descend_b(depth + 1);
    else descend_c(depth + 1);
    require(blocks[depth] != NULL, "order"); /* no tail call */
}

int main(void) {
    descend_a(1);
    for (int i = 1; i <= 400; i++) give(blocks[i]);
    print_counts();
    return 0;
}
