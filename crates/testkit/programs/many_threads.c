/* 64 threads at once (or as many as argument 1 says), 1000 blocks each, one in ten left to
 * main, which frees them when the threads are gone. */
#include "counted.h"
#include <pthread.h>

enum { THREADS_MAX = 512, BLOCKS = 1000 };
static void *left[THREADS_MAX][BLOCKS / 10];

static void *work(void *argument) {
    void **mine = argument;
    for (int i = 0; i < BLOCKS; i++) {
        void *block = take(SIZE(i % 50));
        if (i % 10 == 0) mine[i / 10] = block;
        else give(block);
    }
    return NULL;
}

int main(int argc, char **argv) {
    int threads = argc > 1 ? atoi(argv[1]) : 64;
    require(threads > 0 && threads <= THREADS_MAX, "thread count");
    static pthread_t ids[THREADS_MAX];
    for (int t = 0; t < threads; t++)
        require(pthread_create(&ids[t], NULL, work, left[t]) == 0, "thread");
    for (int t = 0; t < threads; t++) pthread_join(ids[t], NULL);
    for (int t = 0; t < threads; t++)
        for (int i = 0; i < BLOCKS / 10; i++) give(left[t][i]);
    print_counts();
    return 0;
}
