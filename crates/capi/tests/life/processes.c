// Forks, threads, programs started: at any moment, from any thread.
#include "check.h"
#include <spawn.h>

extern char **environ;

enum { CHURNERS = 5, CHILD_S = 5 };
static atomic_int stop;

// Small blocks, large ones, and threads of their own that come and go.
static void *short_thread(void *block) {
    churn_some((uint64_t)(uintptr_t)block, 50);
    free(block);
    return malloc(40);
}
static void *load(void *seed) {
    uint64_t state = (uint64_t)(uintptr_t)seed;
    while (!stop) {
        churn_some(random_next(&state), 200);
        char *large = malloc(3 << 20);
        CHECK(large);
        large[0] = large[(3 << 20) - 1] = 1;
        pthread_t thread;
        void *block;
        if (pthread_create(&thread, NULL, short_thread, malloc(1000)) == 0) {
            pthread_join(thread, &block);
            free(block);
        }
        free(large);
    }
    return NULL;
}

// What a child does: everything that a lock or a list left in the middle would stop.
static void child_allocates(int may_start_threads) {
    alarm(CHILD_S);
    churn_some((uint64_t)getpid(), 300);
    if (may_start_threads) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, short_thread, malloc(100)) == 0);
        void *block;
        CHECK(pthread_join(thread, &block) == 0);
        free(block);
    }
    free(malloc(2 << 20));
    malloc_trim(0);
    _exit(7);
}

static void expect_seven(pid_t child) {
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 7) {
        fprintf(stderr, "a child ended with status %#x\n", status);
        _exit(1);
    }
}

static pid_t by_raw_call(void) {
#ifdef SYS_fork
    return (pid_t)syscall(SYS_fork);
#else
    return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
#endif
}
extern pid_t _Fork(void) __attribute__((weak));

static void under_load(pid_t (*fork_somehow)(void), int may_start_threads) {
    pthread_t thread[CHURNERS];
    for (long i = 0; i < CHURNERS; i++)
        CHECK(pthread_create(&thread[i], NULL, load, (void *)(i + 1)) == 0);
    for (long i = 0; i < case_argument; i++) {
        pid_t child = fork_somehow();
        CHECK(child >= 0);
        if (child == 0) child_allocates(may_start_threads);
        expect_seven(child);
        free(malloc(500));
    }
    stop = 1;
    for (int i = 0; i < CHURNERS; i++) pthread_join(thread[i], NULL);
}
static void fork_under_load(void) { under_load(fork, 1); }
static void plain_fork_under_load(void) {
    if (_Fork) under_load(_Fork, 0);
}
static void raw_fork_under_load(void) { under_load(by_raw_call, 0); }

// Every thread forks.
static void *forker(void *seed) {
    for (long i = 0; i < case_argument; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) child_allocates(1);
        churn_some((uint64_t)(uintptr_t)seed, 100);
        expect_seven(child);
    }
    return NULL;
}
static void fork_from_any_thread(void) {
    pthread_t thread[CHURNERS];
    for (long i = 0; i < CHURNERS; i++)
        CHECK(pthread_create(&thread[i], NULL, forker, (void *)(i + 1)) == 0);
    for (int i = 0; i < CHURNERS; i++) pthread_join(thread[i], NULL);
}

// A child of a child of a child, each with blocks of all before it.
static void generations_of_forks(void) {
    void *block = malloc(1000);
    for (long depth = 0; depth < case_argument; depth++) {
        churn_some((uint64_t)depth, 100);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child > 0) {
            int status = 0;
            CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
            CHECK(WEXITSTATUS(status) == 7);
            if (depth == 0) return;
            _exit(7);
        }
        free(block);
        block = malloc(1000 + (size_t)depth * 5000);
    }
    _exit(7);
}

static void *vforks(void *unused) {
    for (long i = 0; i < case_argument; i++) {
        char *volatile argument = malloc(100);
        strcpy(argument, "/bin/true");
        // The child borrows our memory, and allocates in it.
        pid_t child = vfork();
        if (child == 0) {
            char *words[] = {argument, NULL};
            free(malloc(3000));
            free(malloc(300000));
            execv(argument, words);
            _exit(1);
        }
        CHECK(child > 0);
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
        free(argument);
    }
    return unused;
}
static void *spawns(void *unused) {
    for (long i = 0; i < case_argument; i++) {
        char *words[] = {"true", NULL};
        pid_t child;
        CHECK(posix_spawnp(&child, "true", NULL, NULL, words, environ) == 0);
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    return unused;
}
static void in_three_threads_under_load(void *(*body)(void *)) {
    pthread_t loads[2], thread[3];
    for (long i = 0; i < 2; i++)
        CHECK(pthread_create(&loads[i], NULL, load, (void *)(i + 1)) == 0);
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&thread[i], NULL, body, NULL) == 0);
    for (int i = 0; i < 3; i++) pthread_join(thread[i], NULL);
    stop = 1;
    for (int i = 0; i < 2; i++) pthread_join(loads[i], NULL);
}
static void vfork_that_allocates(void) { in_three_threads_under_load(vforks); }
static void storm_of_spawns(void) { in_three_threads_under_load(spawns); }

// Short threads leave nothing behind: neither memory nor, in the parent, blocks.
static void *brief(void *block) {
    void *own[32];
    for (int i = 0; i < 32; i++) memset(own[i] = malloc(16u << (i % 9)), 1, 16u << (i % 9));
    for (int i = 0; i < 32; i++) free(own[i]);
    free(block);
    return malloc(200);
}
static void short_threads_leave_nothing_behind(void) {
    long before = 0;
    for (long i = 0; i < case_argument; i++) {
        if (i == case_argument / 5) before = private_kib();
        pthread_t thread[2];
        void *block;
        for (int k = 0; k < 2; k++)
            CHECK(pthread_create(&thread[k], NULL, brief, malloc(300)) == 0);
        for (int k = 0; k < 2; k++) {
            CHECK(pthread_join(thread[k], &block) == 0);
            free(block);
        }
    }
    long after = private_kib();
    CHECK(before > 0);
    if (after - before > 512) {
        fprintf(stderr, "%ld KiB became %ld\n", before, after);
        _exit(1);
    }
}

// Blocks outlive the threads that made them, and are freed by others.
enum { HEIRLOOMS = 500 };
static void *leaves_blocks(void *seed) {
    void **blocks = malloc(HEIRLOOMS * sizeof *blocks);
    uint64_t state = (uint64_t)(uintptr_t)seed;
    for (int i = 0; i < HEIRLOOMS; i++) {
        size_t bytes = 16 + random_next(&state) % 4000;
        memset(blocks[i] = malloc(bytes), 0x77, bytes);
    }
    return blocks;
}
static void *frees_blocks(void *argument) {
    unsigned char **blocks = argument;
    for (int i = 0; i < HEIRLOOMS; i++) {
        CHECK(blocks[i][0] == 0x77 && blocks[i][15] == 0x77);
        free(blocks[i]);
    }
    free(blocks);
    return NULL;
}
static void blocks_outlive_their_threads(void) {
    long before = 0;
    for (long i = 0; i < case_argument; i++) {
        pthread_t thread;
        void *blocks;
        CHECK(pthread_create(&thread, NULL, leaves_blocks, (void *)(i + 1)) == 0);
        pthread_join(thread, &blocks);
        CHECK(pthread_create(&thread, NULL, frees_blocks, blocks) == 0);
        pthread_join(thread, NULL);
        if (i == case_argument / 4) before = private_kib();
    }
    long after = private_kib();
    if (after - before > 2048) {
        fprintf(stderr, "%ld KiB became %ld\n", before, after);
        _exit(1);
    }
}

// Threads end after a pause: libc frees their storage under the lock of its thread stacks, by a
// free that may find that there is something to purge, and must start no thread for it.
static pthread_barrier_t rested;
static void *comes_to_rest(void *seed) {
    enum { BLOCKS = 7500, KEPT = BLOCKS / 16 };
    uint64_t state = (uint64_t)(long)seed;
    void **block = malloc(BLOCKS * sizeof *block);
    for (int i = 0; i < BLOCKS; i++) {
        size_t bytes = 32 + random_next(&state) % 4000;
        memset(block[i] = malloc(bytes), 1, bytes);
    }
    for (int i = KEPT; i < BLOCKS; i++) free(block[i]);
    pthread_barrier_wait(&rested);
    pthread_barrier_wait(&rested);
    return NULL;
}
static void eight_threads_rest_and_end(void) {
    pthread_t thread[8];
    pthread_barrier_init(&rested, NULL, 9);
    for (long i = 0; i < 8; i++) CHECK(!pthread_create(&thread[i], NULL, comes_to_rest, (void *)i));
    pthread_barrier_wait(&rested);
    usleep(1500000);
    pthread_barrier_wait(&rested);
    for (int i = 0; i < 8; i++) pthread_join(thread[i], NULL);
}
static void threads_end_after_a_rest(void) {
    enum { CHILDREN = 10, WAIT_MS = 60000 };
    pid_t child[CHILDREN];
    for (int i = 0; i < CHILDREN; i++) {
        CHECK((child[i] = fork()) >= 0);
        if (child[i] == 0) {
            for (long round = 0; round < case_argument; round++) eight_threads_rest_and_end();
            _exit(0);
        }
    }
    int stuck = 0, waited_ms = 0;
    for (int i = 0; i < CHILDREN; i++) {
        int status = 0;
        pid_t ended;
        while ((ended = waitpid(child[i], &status, WNOHANG)) == 0 && waited_ms++ < WAIT_MS) usleep(1000);
        if (ended == child[i]) {
            CHECK(status == 0);
            continue;
        }
        // It waits for ever, with all signals blocked.
        stuck++;
        kill(child[i], SIGKILL);
        waitpid(child[i], &status, 0);
    }
    CHECK(stuck == 0);
}

// A handler of libc's fork that was registered before the allocator's, which comes with its first
// small block, runs after it before a fork and before it after one.
static atomic_int handlers_allocate, handlers_lock;
static pthread_mutex_t of_handlers = PTHREAD_MUTEX_INITIALIZER;
static void before_a_fork(void) {
    if (handlers_allocate) churn_some((uint64_t)handlers_allocate, 200);
    if (handlers_lock) pthread_mutex_lock(&of_handlers);
}
static void after_a_fork(void) {
    if (handlers_lock) pthread_mutex_unlock(&of_handlers);
    if (handlers_allocate) churn_some((uint64_t)handlers_allocate++, 200);
}
__attribute__((constructor(101))) static void register_early(void) {
    pthread_atfork(before_a_fork, after_a_fork, after_a_fork);
}
static void fork_handlers_that_allocate(void) {
    handlers_allocate = 1;
    // Without other threads, too.
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) child_allocates(1);
    expect_seven(child);
    under_load(fork, 1);
}

// Has the mutex that a handler waits for while it allocates, which waits for who forks.
static void *allocates_with_the_mutex(void *seed) {
    uint64_t state = (uint64_t)(uintptr_t)seed;
    while (!stop) {
        pthread_mutex_lock(&of_handlers);
        churn_some(random_next(&state), 300);
        pthread_mutex_unlock(&of_handlers);
    }
    return NULL;
}
static void fork_handlers_that_wait_for_who_allocates(void) {
    handlers_lock = 1;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, allocates_with_the_mutex, (void *)1) == 0);
    for (long i = 0; i < case_argument; i++) {
        usleep(1000);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) child_allocates(1);
        expect_seven(child);
    }
    stop = 1;
    pthread_join(thread, NULL);
}

// One thread allocates with a file's lock, one waits for that with the lock of all files, which
// fork waits for.
static int lines[2];
static void *writes_lines(void *unused) {
    static char line[200000];
    memset(line, 'x', sizeof line);
    for (size_t n = 0; !stop; n++) {
        size_t bytes = 100 + n * 7919 % 190000;
        line[bytes - 1] = '\n';
        for (size_t sent = 0; sent < bytes;) {
            ssize_t more = write(lines[1], line + sent, bytes - sent);
            CHECK(more > 0);
            sent += (size_t)more;
        }
        line[bytes - 1] = 'x';
    }
    close(lines[1]);
    return unused;
}
static void *reads_lines(void *unused) {
    FILE *file = fdopen(lines[0], "r");
    CHECK(file);
    for (;;) {
        char *line = NULL;
        size_t room = 0;
        ssize_t bytes = getline(&line, &room, file);
        free(line);
        if (bytes < 0) break;
    }
    fclose(file);
    return unused;
}
static void *flushes_files(void *unused) {
    while (!stop) fflush(NULL);
    return unused;
}
static void fork_while_files_are_flushed(void) {
    pthread_t thread[3];
    void *(*body[])(void *) = {writes_lines, reads_lines, flushes_files};
    CHECK(pipe(lines) == 0);
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&thread[i], NULL, body[i], NULL) == 0);
    for (long i = 0; i < case_argument; i++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            alarm(CHILD_S);
            churn_some((uint64_t)i, 100);
            fflush(NULL);
            _exit(7);
        }
        expect_seven(child);
    }
    stop = 1;
    for (int i = 0; i < 3; i++) pthread_join(thread[i], NULL);
}

// A timer's handler forks, wherever it finds the only thread: in malloc, in free, in a fork. Every
// other child goes on with what the handler interrupted. The timer is not that of `alarm`, which
// watches over this process.
static volatile sig_atomic_t handler_forks, is_child_of_handler;
static timer_t timer;
static void set_timer(void) {
    // Short ones, which find the thread in a fork, and some that let a slow fork end: the kernel
    // begins it again after each handler.
    long us = (20 + handler_forks * 7919 % 200) << (handler_forks % 8 ? 0 : handler_forks / 8 % 8);
    struct itimerspec after = {.it_value.tv_nsec = us * 1000};
    CHECK(timer_settime(timer, 0, &after, NULL) == 0);
}
static void forks_in_a_handler(int unused) {
    (void)unused;
    int goes_on = ++handler_forks % 2;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        if (!goes_on) _exit(7);
        // A child has no timer.
        is_child_of_handler = 1;
        alarm(CHILD_S);
        return;
    }
    expect_seven(child);
    set_timer();
}
static void handlers_of_signals_that_fork(void) {
    struct sigaction action = {.sa_handler = forks_in_a_handler, .sa_flags = SA_RESTART};
    CHECK(sigaction(SIGUSR1, &action, NULL) == 0);
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    set_timer();
    for (uint64_t seed = 0; handler_forks < case_argument; seed++) {
        churn_some(seed, 100);
        if (is_child_of_handler) child_allocates(0);
        if (seed % 8 != 0) continue;
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) child_allocates(0);
        int status = 0;
        pid_t ended = waitpid(child, &status, 0);
        // The handler forked meanwhile: the child is its parent's.
        if (is_child_of_handler) child_allocates(0);
        CHECK(ended == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    }
    sigset_t all;
    sigfillset(&all);
    CHECK(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
    if (is_child_of_handler) child_allocates(0);
}

int main(int argc, char **argv) {
    static const case_t cases[] = {
        {"fork_under_load", fork_under_load},
        {"plain_fork_under_load", plain_fork_under_load},
        {"raw_fork_under_load", raw_fork_under_load},
        {"fork_from_any_thread", fork_from_any_thread},
        {"generations_of_forks", generations_of_forks},
        {"vfork_that_allocates", vfork_that_allocates},
        {"storm_of_spawns", storm_of_spawns},
        {"short_threads_leave_nothing_behind", short_threads_leave_nothing_behind},
        {"blocks_outlive_their_threads", blocks_outlive_their_threads},
        {"threads_end_after_a_rest", threads_end_after_a_rest},
        {"fork_handlers_that_allocate", fork_handlers_that_allocate},
        {"fork_handlers_that_wait_for_who_allocates", fork_handlers_that_wait_for_who_allocates},
        {"fork_while_files_are_flushed", fork_while_files_are_flushed},
        {"handlers_of_signals_that_fork", handlers_of_signals_that_fork},
        {NULL, NULL}};
    return run_case(cases, argc, argv);
}
