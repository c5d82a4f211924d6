// What every program of the malloc suite shares: a generator, threads, a closing sum.
//
// A program does a fixed amount of work, `argv[1]` times a unit of its own, and prints one number
// that does not depend on the allocator, so that a wrong allocator is seen and no work can be
// optimised away. Memory is touched as the program that lends its shape touches it.
#ifndef WORKLOAD_H
#define WORKLOAD_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// xorshift64*: the same numbers on every machine.
typedef struct {
    uint64_t state;
} rng_t;

static inline rng_t rng_seeded(uint64_t seed) {
    rng_t rng = {seed * 0x9e3779b97f4a7c15u + 0x1234567};
    return rng;
}

static inline uint32_t rng_next(rng_t *rng) {
    uint64_t x = rng->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    rng->state = x;
    return (uint32_t)((x * 0x2545f4914f6cdd1du) >> 32);
}

// 0 to count - 1, without a division.
static inline uint32_t rng_below(rng_t *rng, uint32_t count) {
    return (uint32_t)(((uint64_t)rng_next(rng) * count) >> 32);
}

static inline void *checked(void *block) {
    if (!block) {
        fputs("out of memory\n", stderr);
        exit(1);
    }
    return block;
}

static inline long work_units(int argc, char **argv) {
    long units = argc > 1 ? atol(argv[1]) : 1;
    return units > 0 ? units : 1;
}

// The last number that `format` finds in a file of the kernel's, in KiB as these are.
static inline long kib_of(const char *path, const char *format) {
    FILE *file = fopen(path, "r");
    char line[200];
    long kib = 0;
    while (file && fgets(line, sizeof line, file)) sscanf(line, format, &kib);
    if (file) fclose(file);
    return kib;
}

static inline double now_ms(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

// Runs `body` in `count` threads, each with its index, and waits for all.
static inline void in_threads(int count, void *(*body)(void *)) {
    pthread_t threads[64];
    for (long i = 0; i < count; i++)
        if (pthread_create(&threads[i], NULL, body, (void *)i)) exit(1);
    for (int i = 0; i < count; i++) pthread_join(threads[i], NULL);
}
#endif
