/* Argument 1 threads allocate and free for argument 2 milliseconds; SIGTERM ends the program with
 * status 9 (argument 3 `wait`: prints `went on` at the end). */
#include "counted.h"
#include <pthread.h>
#include <signal.h>
#include <time.h>

static _Atomic int stop;

static void leave(int signal) {
    (void)signal;
    _exit(9);
}

static void *churn(void *unused) {
    (void)unused;
    for (unsigned i = 0; !stop; i++) {
        void *a = malloc(SIZE(i % 50)), *b = malloc(SIZE(i % 3));
        free(a);
        free(b);
    }
    return NULL;
}

int main(int argc, char **argv) {
    require(argc > 2, "threads and milliseconds");
    signal(SIGTERM, leave);
    static pthread_t threads[256];
    int count = atoi(argv[1]);
    for (int i = 0; i < count; i++)
        require(pthread_create(&threads[i], NULL, churn, NULL) == 0, "thread");
    usleep((useconds_t)atoi(argv[2]) * 1000);
    stop = 1;
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    require(write(1, "went on\n", 8) == 8, "write");
    return 4;
}
