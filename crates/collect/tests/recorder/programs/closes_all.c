/* Closes every descriptor but the standard ones, opens 900 of its own, checks that they stay
 * its own, and starts threads, allocates and forks after that. */
#include "counted.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int own[900];

static void *work(void *unused) {
    (void)unused;
    for (int i = 0; i < 60000; i++) give(take(SIZE(i % 40)));
    return NULL;
}

int main(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_max < 1000) return 77;
    limit.rlim_cur = 1000;
    setrlimit(RLIMIT_NOFILE, &limit);
    give(take(SIZE(1)));
    require(syscall(SYS_close_range, 3u, ~0u, 0) == 0, "close_range");
    for (int i = 0; i < 900; i++) {
        own[i] = open("/dev/null", O_RDWR);
        require(own[i] == i + 3, "the lowest number");
    }
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) require(pthread_create(&threads[i], NULL, work, NULL) == 0, "thread");
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    pid_t pid = fork();
    if (pid == 0) {
        reset_counts();
        give(take(SIZE(2)));
        print_counts();
        exit(0);
    }
    int status = 0;
    require(waitpid(pid, &status, 0) == pid && status == 0, "child");
    struct stat null, mine;
    stat("/dev/null", &null);
    for (int i = 0; i < 900; i++)
        require(fstat(own[i], &mine) == 0 && mine.st_ino == null.st_ino, "still ours");
    print_counts();
    return 0;
}
