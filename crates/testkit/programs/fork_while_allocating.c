/* Three threads allocate without end while main forks 40 times; each child allocates at once.
 * A recorder or allocator that forks with a lock held stands still here. Counts: main's only. */
#include "counted.h"
#include <pthread.h>
#include <sys/wait.h>

static _Atomic int stop;

static void *churn(void *unused) {
    (void)unused;
    while (!stop) {
        void *a = malloc(100), *b = malloc(3000);
        free(a);
        free(b);
    }
    return NULL;
}

int main(void) {
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) require(pthread_create(&threads[i], NULL, churn, NULL) == 0, "thread");
    for (int i = 0; i < 40; i++) {
        give(take(SIZE(i)));
        pid_t pid = fork();
        require(pid >= 0, "fork");
        if (pid == 0) {
            for (int k = 0; k < 100; k++) free(malloc((size_t)k * 50 + 1));
            _exit(7);
        }
        int status = 0;
        require(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 7, "child");
    }
    stop = 1;
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    print_counts();
    return 0;
}
