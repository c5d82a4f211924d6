/* 100 blocks, four children that free 50 of them and make 200 of their own; each process
 * prints its counts. Two children leave by exit, two by _exit. */
#include "counted.h"
#include <sys/wait.h>

int main(void) {
    static void *blocks[100];
    for (int i = 0; i < 100; i++) blocks[i] = take(SIZE(i % 10));
    for (int child = 0; child < 4; child++) {
        pid_t pid = fork();
        require(pid >= 0, "fork");
        if (pid == 0) {
            reset_counts();
            for (int i = 0; i < 50; i++) give(blocks[i]);
            for (int i = 0; i < 200; i++) {
                void *block = take(SIZE(i % 7));
                if (i % 2) give(block);
            }
            print_counts();
            if (child % 2) _exit(0);
            exit(0);
        }
        int status = 0;
        require(waitpid(pid, &status, 0) == pid && status == 0, "child");
    }
    for (int i = 0; i < 100; i++) give(blocks[i]);
    print_counts();
    return 0;
}
