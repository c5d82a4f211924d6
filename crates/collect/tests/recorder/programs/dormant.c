/* Argument 1 threads allocate and free until standard input ends, argument 2 milliseconds at most;
 * each keeps 64 blocks, which it frees a round later. Argument 3: `forks` children that allocate
 * too, `execs`
 * this program again (argument 4 keeps it from doing so for ever), `confined` gives system calls
 * up first. Prints `ready` at the start and `went on` at the end; status 4. */
#include "counted.h"
#include <pthread.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static _Atomic int stop;

static void *churn(void *unused) {
    (void)unused;
    void *kept[64] = {0};
    while (!stop) {
        for (unsigned i = 0; i < 64; i++) {
            free(kept[i]);
            kept[i] = malloc(SIZE(i % 50));
            void *again = realloc(malloc(SIZE(i % 7)), SIZE(i % 9));
            free(again);
        }
        usleep(500);
    }
    for (unsigned i = 0; i < 64; i++) free(kept[i]);
    return NULL;
}

static int input_has_ended(void) {
    struct pollfd input = {0, POLLIN, 0};
    return poll(&input, 1, 0) > 0;
}

static void child(int number) {
    void *blocks[100];
    for (int i = 0; i < 100; i++) blocks[i] = malloc(SIZE(number % 5));
    for (int i = 0; i < 100; i++) free(blocks[i]);
    _exit(0);
}

int main(int argc, char **argv) {
    require(argc > 2, "threads and milliseconds");
    const char *way = argc > 3 ? argv[3] : "";
    static pthread_t threads[64];
    int count = atoi(argv[1]);
    int rounds = atoi(argv[2]) / 5;
    if (strcmp(way, "confined") == 0) {
        struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
        struct sock_fprog program = {1, &allow};
        require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no new privileges");
        require(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "prctl");
    }
    for (int i = 0; i < count; i++)
        require(pthread_create(&threads[i], NULL, churn, NULL) == 0, "thread");
    require(write(1, "ready\n", 6) == 6, "write");
    pid_t second = 0;
    if (strcmp(way, "execs") == 0 && (second = fork()) == 0) {
        execl("/proc/self/exe", argv[0], argv[1], argv[2], NULL);
        _exit(127);
    }
    for (int i = 0; i < rounds && !input_has_ended(); i++) {
        if (strcmp(way, "forks") == 0 && i % 4 == 0) {
            pid_t pid = fork();
            if (pid == 0) child(i);
            require(waitpid(pid, NULL, 0) == pid, "child");
        }
        usleep(5000);
    }
    stop = 1;
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
    if (second != 0) waitpid(second, NULL, 0);
    require(write(1, "went on\n", 8) == 8, "write");
    return 4;
}
