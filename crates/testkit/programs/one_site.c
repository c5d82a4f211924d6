// One call site whose blocks go every way that blocks can go: written when they begin, checked when
// they end, by this thread or another one, in a child, or never. Prints a sum that depends on all
// of it and on nothing else. Sizes are 24, 48, ... up to 24 times the first argument.
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIVE 400
#define STEPS 20000
#define THREADS 4

struct block { unsigned char *start; size_t bytes; unsigned char mark; };

static unsigned long next(unsigned long *state) {
    *state = *state * 6364136223846793005ul + 1442695040888963407ul;
    return *state >> 33;
}

static unsigned sizes;

// One line, so one call site, whatever the function.
__attribute__((noinline)) static void *take(unsigned way, size_t n, void *p) {
    void *block = way == 0 ? malloc(n) : way == 1 ? calloc(1, n) : way == 2 ? realloc(NULL, n) : way == 3 ? aligned_alloc(64, n) : (posix_memalign(&p, 32, n), p);
    __asm__ volatile("" ::: "memory");
    return block;
}

static void check(const struct block *block) {
    for (size_t i = 0; i < block->bytes; i++)
        if (block->start[i] != block->mark) { fprintf(stderr, "byte %zu changed\n", i); _exit(9); }
}

static unsigned long begin(struct block *block, unsigned long *state) {
    unsigned way = next(state) % 5;
    block->bytes = 24 * (1 + next(state) % sizes);
    block->mark = next(state);
    block->start = take(way, block->bytes, NULL);
    if (!block->start || (way == 3 && (size_t)block->start % 64) || (size_t)block->start % 16) _exit(8);
    for (size_t i = 0; way == 1 && i < block->bytes; i++) if (block->start[i]) _exit(7);
    memset(block->start, block->mark, block->bytes);
    return block->bytes + block->mark;
}

static void resize(struct block *block, unsigned long *state) {
    size_t bytes = 24 * (1 + next(state) % sizes), kept = bytes < block->bytes ? bytes : block->bytes;
    block->start = realloc(block->start, bytes);
    if (!block->start) _exit(6);
    block->bytes = kept;
    check(block);
    block->bytes = bytes;
    memset(block->start, block->mark, bytes);
}

static unsigned long churn(struct block *blocks, unsigned long seed, int steps, int resizes) {
    unsigned long sum = 0, state = seed;
    for (int i = 0; i < steps; i++) {
        struct block *block = &blocks[next(&state) % LIVE];
        if (block->start && resizes && next(&state) % 8 == 0) { check(block); resize(block, &state); continue; }
        if (block->start) { check(block); free(block->start); }
        sum += begin(block, &state);
    }
    return sum;
}

static struct block of_thread[THREADS][LIVE];
static unsigned long sum_of[THREADS];
static pthread_barrier_t all;

static void *thread(void *number) {
    long me = (long)number;
    for (int round = 0; round < 6; round++) {
        sum_of[me] += churn(of_thread[(me + round) % THREADS], me + 10 * round, STEPS / 20, 1);
        pthread_barrier_wait(&all);
    }
    return NULL;
}

int main(int count, char **arguments) {
    static struct block blocks[LIVE];
    sizes = count > 1 ? atoi(arguments[1]) : 1;
    unsigned long sum = churn(blocks, 1, STEPS, 1);
    pthread_barrier_init(&all, NULL, THREADS);
    for (int generation = 0; generation < 3; generation++) {
        pthread_t threads[THREADS];
        for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, thread, (void *)i);
        for (long i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    }
    for (int i = 0; i < THREADS; i++) sum += sum_of[i];
    sum += churn(blocks, 2, STEPS, 1);
    fflush(stdout);
    if (fork() == 0) {
        // The parent's blocks, one's own and other threads', end here, too.
        unsigned long child = churn(blocks, 3, STEPS, 1);
        for (int i = 0; i < THREADS; i++) child += churn(of_thread[i], i, STEPS / 10, 1);
        printf("child %lu\n", child);
        fflush(stdout);
        _exit(0);
    }
    int status = 0;
    wait(&status);
    for (int i = 0; i < LIVE / 2; i++) if (blocks[i].start) { check(&blocks[i]); free(blocks[i].start); }
    printf("parent %lu %d\n", sum, status);
    return 0;
}
