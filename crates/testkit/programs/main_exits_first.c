/* main ends by pthread_exit; a detached thread goes on, allocates, prints and ends the process. */
#include "counted.h"
#include <pthread.h>

static void *survivor(void *unused) {
    (void)unused;
    usleep(30000);
    for (int i = 0; i < 500; i++) {
        void *block = take(SIZE(i % 30));
        if (i % 5) give(block);
    }
    print_counts();
    return NULL;
}

int main(void) {
    pthread_t thread;
    for (int i = 0; i < 100; i++) give(take(SIZE(i % 3)));
    require(pthread_create(&thread, NULL, survivor, NULL) == 0, "thread");
    pthread_detach(thread);
    pthread_exit(NULL);
}
