/* 500 threads one after the other, each with 20 blocks and a thread-specific value whose
 * destructor frees after the thread's function has returned. */
#include "counted.h"
#include <pthread.h>

static pthread_key_t key;

static void *work(void *unused) {
    (void)unused;
    for (int i = 0; i < 20; i++) give(take(SIZE(i)));
    pthread_setspecific(key, take(SIZE(33)));
    return NULL;
}

int main(void) {
    require(pthread_key_create(&key, give) == 0, "key");
    for (int i = 0; i < 500; i++) {
        pthread_t thread;
        require(pthread_create(&thread, NULL, work, NULL) == 0, "thread");
        pthread_join(thread, NULL);
    }
    print_counts();
    return 0;
}
