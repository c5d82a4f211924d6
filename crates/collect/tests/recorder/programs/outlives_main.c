/* main leaves by pthread_exit; for half a second more a thread allocates. */
#include "counted.h"
#include <pthread.h>

static void *survivor(void *unused) {
    (void)unused;
    for (int round = 0; round < 10; round++) {
        usleep(50000);
        for (int i = 0; i < 100; i++) give(take(SIZE(i % 30)));
    }
    print_counts();
    return NULL;
}

int main(void) {
    pthread_t thread;
    require(pthread_create(&thread, NULL, survivor, NULL) == 0, "thread");
    pthread_detach(thread);
    pthread_exit(NULL);
}
