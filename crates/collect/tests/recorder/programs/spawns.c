/* Ten times posix_spawn of itself (which makes 5 blocks). */
#include "counted.h"
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv) {
    if (argc > 1) {
        for (int i = 0; i < 5; i++) give(take(SIZE(i)));
        print_counts();
        return 0;
    }
    char *arguments[] = {argv[0], "child", NULL};
    for (int i = 0; i < 10; i++) {
        pid_t pid;
        int status = 0;
        void *block = take(SIZE(i));
        require(posix_spawn(&pid, "/proc/self/exe", NULL, NULL, arguments, environ) == 0, "spawn");
        require(waitpid(pid, &status, 0) == pid && status == 0, "child");
        give(block);
    }
    print_counts();
    return 0;
}
