/* Call sites of known habits, each in a function of its own name, for the analysis:
 * temporary (freed at once), stack-like, batches that die together, a pool of one size with
 * random deaths, blocks given to another thread, growing arrays, and a leak. */
#include "counted.h"
#include <pthread.h>

#define SITE __attribute__((noinline)) static
static unsigned seed = 1;

static unsigned draw(unsigned below) {
    seed = seed * 1664525u + 1013904223u;
    return (seed >> 8) % below;
}

SITE void temporary_site(int i) {
    void *block = take(SIZE(1 + i % 4));
    give(block);
}

SITE void stack_site(int depth) {
    void *block = take(SIZE(2));
    if (depth > 0) stack_site(depth - 1);
    give(block);
}

SITE void batch_site(void) {
    void *blocks[64];
    for (int i = 0; i < 64; i++) blocks[i] = take(SIZE(draw(8)));
    for (int i = 0; i < 64; i++) give(blocks[i]);
}

SITE void pool_site(void **slots) {
    unsigned slot = draw(512);
    give(slots[slot]);
    slots[slot] = take(SIZE(3));
}

SITE void *handover_site(void) { return take(SIZE(5)); }

SITE void *growing_site(void *array, int i) { return resize(array, SIZE(8 * (i + 1))); }

SITE void leak_site(void) {
    void *volatile lost = take(SIZE(6));
    lost = NULL;
    (void)lost;
}

static void *hands[1000];

static void *receive(void *unused) {
    (void)unused;
    for (int i = 0; i < 1000; i++) give(hands[i]);
    return NULL;
}

int main(void) {
    static void *slots[512];
    for (int round = 0; round < 200; round++) {
        for (int i = 0; i < 50; i++) temporary_site(i);
        stack_site(15);
        batch_site();
        for (int i = 0; i < 100; i++) pool_site(slots);
        if (round % 2 == 0) leak_site();
    }
    void *array = NULL;
    for (int i = 0; i < 100; i++) array = growing_site(array, i);
    for (int i = 0; i < 1000; i++) hands[i] = handover_site();
    pthread_t thread;
    require(pthread_create(&thread, NULL, receive, NULL) == 0, "thread");
    pthread_join(thread, NULL);
    for (int i = 0; i < 512; i++) give(slots[i]);
    give(array);
    print_counts();
    return 0;
}
