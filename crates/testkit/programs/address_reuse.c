/* Two threads take turns: one frees a block, the other allocates the same size at once and
 * nearly always gets the same address. A recorder that writes the free after the fact must
 * not mistake the second block for the first. Prints how often the address came back. */
#include "counted.h"
#include <pthread.h>
#include <sched.h>

enum { ROUNDS = 20000 };
static void *block;
static _Atomic int turn;
static unsigned long reused;

static void *other(void *unused) {
    (void)unused;
    for (int i = 0; i < ROUNDS; i++) {
        while (turn != 1) sched_yield();
        void *old = block;
        give(block);
        turn = 2;
        while (turn != 3) sched_yield();
        reused += block == old;
        turn = 0;
    }
    return NULL;
}

int main(void) {
    pthread_t thread;
    mallopt(M_ARENA_MAX, 1); /* one arena, and sizes above what glibc caches for a thread */
    void *fence = take(SIZE(100));
    block = take(SIZE(40));
    require(pthread_create(&thread, NULL, other, NULL) == 0, "thread");
    for (int i = 0; i < ROUNDS; i++) {
        turn = 1;
        while (turn != 2) sched_yield();
        block = take(SIZE(40));
        turn = 3;
        while (turn != 0) sched_yield();
    }
    pthread_join(thread, NULL);
    give(block);
    give(fence);
    print_counts();
    char line[64];
    int n = snprintf(line, sizeof line, "reused %lu of %d\n", reused, ROUNDS);
    require(write(1, line, (size_t)n) == n, "write");
    return 0;
}
