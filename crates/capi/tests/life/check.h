// What the programs of these tests share.
#ifndef CHECK_H
#define CHECK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                                          \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            fprintf(stderr, "%s:%d: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);     \
            _exit(1);                                                                             \
        }                                                                                         \
    } while (0)

static inline uint32_t random_next(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*state >> 33);
}

// Replaces random blocks of all sizes; every block carries its size at both ends.
static inline void churn_some(uint64_t seed, int steps) {
    enum { SLOTS = 64 };
    unsigned char *slot[SLOTS] = {0};
    size_t bytes[SLOTS] = {0};
    for (int i = 0; i < steps; i++) {
        uint32_t at = random_next(&seed) % SLOTS, dice = random_next(&seed) % 1000;
        if (slot[at]) {
            CHECK(slot[at][0] == (unsigned char)bytes[at]);
            CHECK(slot[at][bytes[at] - 1] == (unsigned char)bytes[at]);
            free(slot[at]);
        }
        bytes[at] = 1 + random_next(&seed) % (dice < 2 ? 3000000 : dice < 30 ? 60000 : 1200);
        CHECK(slot[at] = malloc(bytes[at]));
        slot[at][0] = (unsigned char)bytes[at];
        slot[at][bytes[at] - 1] = (unsigned char)bytes[at];
    }
    for (int i = 0; i < SLOTS; i++) free(slot[i]);
}

// Lets the system call fail with EPERM from now on, as a sandbox does.
static inline void forbid(unsigned number) {
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

// KiB that the process holds resident and has written.
static inline long private_kib(void) {
    char line[256];
    long kib = -1;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    while (file && fgets(line, sizeof line, file)) sscanf(line, "Private_Dirty: %ld", &kib);
    if (file) fclose(file);
    return kib;
}

typedef struct {
    const char *name;
    void (*body)(void);
} case_t;

// Runs the case named by `argv[1]`; a second argument is its number. Nothing may take a minute.
static long case_argument;
static inline int run_case(const case_t *cases, int argc, char **argv) {
    alarm(argc > 3 ? (unsigned)atoi(argv[3]) : 60);
    case_argument = argc > 2 ? atol(argv[2]) : 0;
    for (; cases->name; cases++)
        if (argc > 1 && strcmp(cases->name, argv[1]) == 0) {
            cases->body();
            puts("fine");
            return 0;
        }
    fprintf(stderr, "no such case\n");
    return 2;
}
#endif
