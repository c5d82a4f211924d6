// Runs a program and prints what it used, from a process so small that its own memory does not
// show in the program's peak (the kernel carries the peak over exec).
//   measure time OBJECT OUT PROGRAM ...     wall ns, user us, system us, peak KiB, minor faults
//   measure exit OBJECT OUT PROGRAM ...     Rss, Pss and private dirty KiB at its exit
// OBJECT is preloaded into the program unless it is empty; OUT takes the program's standard
// output. The line is printed on our standard output. The status is the program's; one that
// runs longer than LIMIT_S is killed.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { LIMIT_S = 120 };

static pid_t child;

static void too_long(int signal) {
    (void)signal;
    kill(child, SIGKILL);
}

static long long now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void start(int is_traced, const char *object, const char *out, char **program) {
    int fd = open(out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || dup2(fd, 1) < 0) _exit(127);
    close(fd);
    if (*object) setenv("LD_PRELOAD", object, 1);
    if (is_traced) ptrace(PTRACE_TRACEME, 0, 0, 0);
    execvp(program[0], program);
    fprintf(stderr, "%s: %s\n", program[0], strerror(errno));
    _exit(127);
}

static int shell_status(int status) {
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int timed(long long begin) {
    struct rusage used;
    int status;
    if (wait4(child, &status, 0, &used) != child) return 125;
    printf("%lld %lld %lld %ld %ld\n", now_ns() - begin,
           used.ru_utime.tv_sec * 1000000LL + used.ru_utime.tv_usec,
           used.ru_stime.tv_sec * 1000000LL + used.ru_stime.tv_usec, used.ru_maxrss, used.ru_minflt);
    return shell_status(status);
}

static void print_memory(void) {
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/smaps_rollup", child);
    FILE *file = fopen(path, "r");
    long rss = -1, pss = -1, dirty = -1;
    while (file && fgets(line, sizeof line, file)) {
        sscanf(line, "Rss: %ld", &rss);
        sscanf(line, "Pss: %ld", &pss);
        sscanf(line, "Private_Dirty: %ld", &dirty);
    }
    if (file) fclose(file);
    printf("%ld %ld %ld\n", rss, pss, dirty);
}

// Stops the program as it exits, while its memory is still there.
static int at_exit(void) {
    int status;
    if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) return 125;
    ptrace(PTRACE_SETOPTIONS, child, 0, PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL);
    int signal = 0;
    for (;;) {
        ptrace(PTRACE_CONT, child, 0, signal);
        if (waitpid(child, &status, 0) != child) return 125;
        if (WIFEXITED(status) || WIFSIGNALED(status)) return shell_status(status);
        signal = 0;
        if (status >> 8 == (SIGTRAP | PTRACE_EVENT_EXIT << 8))
            print_memory();
        else if (WSTOPSIG(status) != SIGTRAP)
            signal = WSTOPSIG(status);
    }
}

int main(int argc, char **argv) {
    if (argc < 5) return 125;
    int is_traced = strcmp(argv[1], "exit") == 0;
    long long begin = now_ns();
    child = fork();
    if (child == 0) start(is_traced, argv[2], argv[3], argv + 4);
    if (child < 0) return 125;
    signal(SIGALRM, too_long);
    alarm(LIMIT_S);
    return is_traced ? at_exit() : timed(begin);
}
