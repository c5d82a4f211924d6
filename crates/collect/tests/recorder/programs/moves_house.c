/* Changes directory, root and user (as root), then starts a thread, allocates and forks. */
#include "counted.h"
#include <pthread.h>
#include <sys/wait.h>

static void *work(void *unused) {
    (void)unused;
    for (int i = 0; i < 60000; i++) give(take(SIZE(i % 40)));
    return NULL;
}

int main(int argc, char **argv) {
    require(argc > 2, "name a directory and whether to change root");
    give(take(SIZE(1)));
    require(chdir(argv[1]) == 0, "chdir");
    if (argv[2][0] == 'r') require(chroot(".") == 0, "chroot");
    if (geteuid() == 0) require(setuid(65534) == 0, "setuid");
    pthread_t thread;
    require(pthread_create(&thread, NULL, work, NULL) == 0, "thread");
    pthread_join(thread, NULL);
    pid_t pid = fork();
    if (pid == 0) {
        reset_counts();
        give(take(SIZE(2)));
        print_counts();
        exit(0);
    }
    int status = 0;
    require(waitpid(pid, &status, 0) == pid && status == 0, "child");
    print_counts();
    return 0;
}
