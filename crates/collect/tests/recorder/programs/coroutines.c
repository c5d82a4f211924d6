/* Three coroutines on stacks of their own allocate in turns with main. */
#include "counted.h"
#include <ucontext.h>

static ucontext_t main_context, contexts[3];
static void *blocks[3][100];

__attribute__((noinline)) static void in_coroutine(int which) {
    for (int i = 0; i < 100; i++) {
        blocks[which][i] = take(SIZE(which * 10 + i % 7));
        swapcontext(&contexts[which], &main_context);
    }
}

static void body(int which) {
    in_coroutine(which);
    for (int i = 0; i < 100; i++) give(blocks[which][i]);
}

int main(void) {
    static char stacks[3][64 * 1024];
    for (int i = 0; i < 3; i++) {
        getcontext(&contexts[i]);
        contexts[i].uc_stack.ss_sp = stacks[i];
        contexts[i].uc_stack.ss_size = sizeof stacks[i];
        contexts[i].uc_link = &main_context;
        makecontext(&contexts[i], (void (*)(void))body, 1, i);
    }
    for (int round = 0; round <= 100; round++) {
        for (int i = 0; i < 3; i++) swapcontext(&main_context, &contexts[i]);
        give(take(SIZE(50)));
    }
    print_counts();
    return 0;
}
