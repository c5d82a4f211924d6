/* A thread with the smallest stack there is allocates, loads a page of a new size class, and
 * forks; the child allocates too. Prints how much of its stack the first block took. */
#include "counted.h"
#include <limits.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>

static char *low;
static size_t stack_bytes;

static size_t untouched(void) {
    size_t bytes = 0;
    while (bytes < stack_bytes && low[bytes] == 0x5c) bytes++;
    return bytes;
}

static void *work(void *unused) {
    (void)unused;
    size_t before = untouched();
    void *block = take(SIZE(1));
    size_t after = untouched();
    give(block);
    for (int i = 0; i < 100; i++) give(take(SIZE(i * 40)));
    pid_t pid = fork();
    require(pid >= 0, "fork");
    if (pid == 0) {
        reset_counts();
        give(take(SIZE(2)));
        print_counts();
        _exit(0);
    }
    int status = 0;
    require(waitpid(pid, &status, 0) == pid && status == 0, "child");
    char line[96];
    int n = snprintf(line, sizeof line, "stack %zu\n", before - after);
    require(write(1, line, (size_t)n) == n, "write");
    return NULL;
}

int main(void) {
    stack_bytes = (size_t)sysconf(_SC_THREAD_STACK_MIN);
    if (stack_bytes < PTHREAD_STACK_MIN) stack_bytes = PTHREAD_STACK_MIN;
    low = mmap(NULL, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(low != MAP_FAILED, "mmap");
    memset(low, 0x5c, stack_bytes);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    require(pthread_attr_setstack(&attributes, low, stack_bytes) == 0, "stack");
    pthread_t thread;
    require(pthread_create(&thread, &attributes, work, NULL) == 0, "thread");
    pthread_join(thread, NULL);
    print_counts();
    return 0;
}
