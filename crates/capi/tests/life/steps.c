// Counts the instructions that a hot call executes inside the preloaded object, by stepping
// through it: exact, and the same on every run. Prints `name count` lines; of several calls the
// least counts, since now and then a list ends.
#include "check.h"
#include <sys/ptrace.h>
#include <sys/user.h>

void *_Znwm(size_t) __attribute__((weak));
void _ZdlPvm(void *, size_t) __attribute__((weak));

enum { ROUNDS = 12 };

static void *volatile block[8];

// Between two calls of this, steps are counted.
__attribute__((noinline)) static void mark(void) { __asm__ volatile("" ::: "memory"); }

static const char *const names[] = {"malloc-64",  "free-64",   "malloc-1000", "free-1000",
                                    "malloc-3000", "free-3000", "new-64",      "delete-64",
                                    "calloc-64",  "realloc-same", "usable-size"};

static void calls(void) {
#define COUNTED(call) \
    mark();           \
    call;             \
    mark()
    COUNTED(block[0] = malloc(64));
    COUNTED(free(block[0]));
    COUNTED(block[1] = malloc(1000));
    COUNTED(free(block[1]));
    COUNTED(block[2] = malloc(3000));
    COUNTED(free(block[2]));
    COUNTED(block[3] = _Znwm(64));
    COUNTED(_ZdlPvm(block[3], 64));
    COUNTED(block[4] = calloc(1, 64));
    COUNTED(block[5] = realloc(block[4], 60));
    COUNTED((void)malloc_usable_size(block[5]));
    free(block[5]);
}

static void object_text(uintptr_t *begin, uintptr_t *end) {
    char line[512], path[256];
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps)) {
        unsigned long from, to;
        char rights[8];
        path[0] = 0;
        sscanf(line, "%lx-%lx %7s %*s %*s %*s %255s", &from, &to, rights, path);
        // Hot and cold code may have mappings of their own.
        if (!strstr(path, "libheapwright_preload.so") || rights[2] != 'x') continue;
        if (!*begin) *begin = from;
        *end = to;
    }
    fclose(maps);
}

int main(void) {
    uintptr_t begin = 0, end = 0;
    object_text(&begin, &end);
    CHECK(begin);
    // Neighbours stay live, so that no span empties; and every path has run.
    for (int i = 0; i < 40; i++) {
        free(malloc(64));
        CHECK(malloc(64) && malloc(1000) && malloc(3000));
        calls();
    }
    pid_t child = fork();
    if (child == 0) {
        ptrace(PTRACE_TRACEME, 0, 0, 0);
        calls();
        raise(SIGSTOP);
        for (int i = 0; i < ROUNDS; i++) calls();
        _exit(0);
    }
    enum { COUNT = sizeof names / sizeof *names };
    int status, marks = 0;
    long steps = 0, least[COUNT];
    for (int i = 0; i < COUNT; i++) least[i] = 1000000;
    CHECK(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    while (ptrace(PTRACE_SINGLESTEP, child, 0, 0) == 0) {
        CHECK(waitpid(child, &status, 0) == child);
        if (!WIFSTOPPED(status)) break;
        struct user_regs_struct registers;
        ptrace(PTRACE_GETREGS, child, 0, &registers);
        if (registers.rip == (uintptr_t)mark) {
            long *own = &least[marks / 2 % COUNT];
            if (marks++ % 2 == 1 && steps < *own) *own = steps;
            steps = 0;
        }
        steps += registers.rip >= begin && registers.rip < end;
    }
    CHECK(marks == 2 * COUNT * ROUNDS);
    for (int i = 0; i < COUNT; i++) printf("%s %ld\n", names[i], least[i]);
    return 0;
}
