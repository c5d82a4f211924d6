/* Two pairs of threads over lock-free rings: one allocates, the other frees; all share one arena
 * and blocks are above what a thread caches, so that an address freed here is at once given out
 * there. */
#include "counted.h"
#include <pthread.h>
#include <sched.h>

enum { PAIRS = 2, BLOCKS = 40000, RING = 64 };
struct relay { _Atomic(void *) ring[RING]; };
static struct relay relays[PAIRS];

static void *produce(void *argument) {
    struct relay *relay = argument;
    for (int i = 0; i < BLOCKS; i++) {
        void *block = take(SIZE(20 + i % 3));
        while (atomic_load(&relay->ring[i % RING]) != NULL) sched_yield();
        atomic_store(&relay->ring[i % RING], block);
    }
    return NULL;
}

static void *consume(void *argument) {
    struct relay *relay = argument;
    for (int i = 0; i < BLOCKS; i++) {
        void *block;
        while ((block = atomic_exchange(&relay->ring[i % RING], NULL)) == NULL)
            sched_yield();
        give(block);
    }
    return NULL;
}

int main(void) {
    mallopt(M_ARENA_MAX, 1);
    pthread_t threads[2 * PAIRS];
    for (int i = 0; i < PAIRS; i++) {
        require(pthread_create(&threads[2 * i], NULL, produce, &relays[i]) == 0, "thread");
        require(pthread_create(&threads[2 * i + 1], NULL, consume, &relays[i]) == 0, "thread");
    }
    for (int i = 0; i < 2 * PAIRS; i++) pthread_join(threads[i], NULL);
    print_counts();
    return 0;
}
