/* Children by a raw fork system call and by _Fork, which call no fork handlers: each frees 20
 * inherited blocks and makes 30 of its own. */
#include "counted.h"
#include <sys/syscall.h>
#include <sys/wait.h>

int main(void) {
    static void *blocks[100];
    for (int i = 0; i < 100; i++) blocks[i] = take(SIZE(i % 10));
    for (int way = 0; way < 2; way++) {
        pid_t pid = way == 0 ? (pid_t)syscall(SYS_fork) : _Fork();
        require(pid >= 0, "fork");
        if (pid == 0) {
            reset_counts();
            for (int i = 0; i < 20; i++) give(blocks[i]);
            for (int i = 0; i < 30; i++) take(SIZE(i));
            print_counts();
            _exit(0);
        }
        int status = 0;
        require(waitpid(pid, &status, 0) == pid && status == 0, "child");
    }
    for (int i = 0; i < 100; i++) give(blocks[i]);
    print_counts();
    return 0;
}
