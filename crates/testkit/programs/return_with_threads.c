/* main returns while eight threads are in the middle of allocating: exit handlers run beside
 * them. Must end with status 3 and never hang; main's counts only. */
#include "counted.h"
#include <pthread.h>

static void *churn(void *unused) {
    (void)unused;
    for (unsigned i = 1;; i++) free(malloc(i % 5000 + 1));
    return NULL;
}

int main(void) {
    for (int i = 0; i < 8; i++) {
        pthread_t thread;
        require(pthread_create(&thread, NULL, churn, NULL) == 0, "thread");
    }
    for (int i = 0; i < 1000; i++) give(take(SIZE(i % 30)));
    print_counts();
    return 3;
}
