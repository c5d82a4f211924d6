/* 20 times vfork and exec of itself (which allocates 5 blocks), as make and shells do. */
#include "counted.h"
#include <sys/wait.h>

int main(int argc, char **argv) {
    if (argc > 1) {
        for (int i = 0; i < 5; i++) give(take(SIZE(i)));
        print_counts();
        return 0;
    }
    for (int i = 0; i < 20; i++) {
        void *block = take(SIZE(i));
        pid_t pid = vfork();
        if (pid == 0) {
            execl("/proc/self/exe", argv[0], "child", (char *)NULL);
            _exit(127);
        }
        int status = 0;
        require(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "vforked child");
        give(block);
    }
    print_counts();
    return 0;
}
