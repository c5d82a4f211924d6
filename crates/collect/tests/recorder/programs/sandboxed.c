/* Allows itself only what an allocator and an exit need (argument 1: by prctl or by syscall), then
 * allocates from several call sites and leaves. Anything else would end it by SIGSYS. */
#include "counted.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#define ALLOW(number) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

static void *spread(int depth, int i) {
    if (depth == 0) return take(SIZE(i % 40));
    void *block = spread(depth - 1, i);
    require(block != NULL, "block");
    return block;
}

int main(int argc, char **argv) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(__NR_read), ALLOW(__NR_write), ALLOW(__NR_exit), ALLOW(__NR_exit_group),
        ALLOW(__NR_mmap), ALLOW(__NR_munmap), ALLOW(__NR_mremap), ALLOW(__NR_brk),
        ALLOW(__NR_futex), ALLOW(__NR_getpid), ALLOW(__NR_rt_sigreturn),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    give(take(SIZE(1)));
    require(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no new privileges");
    if (argc > 1 && strcmp(argv[1], "prctl") == 0)
        require(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "prctl");
    else
        require(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0, "seccomp");
    for (int i = 0; i < 100000; i++) give(spread(i % 60, i));
    char *large = take(SIZE(1 << 16));
    give(large);
    print_counts();
    return 0;
}
