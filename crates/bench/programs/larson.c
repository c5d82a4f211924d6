// Shape of larson: servers that replace random blocks of their table; each thread ends after a
// number of rounds and hands its table to a new one, which frees what the old one allocated.
// With -DSIZED the C++ operators with a size are used, as compiled C++ does.
#include "workload.h"

#ifdef SIZED
void *_Znwm(size_t);
void _ZdlPvm(void *, size_t);
#define TAKE(bytes) _Znwm(bytes)
#define GIVE(block, bytes) _ZdlPvm(block, bytes)
#else
#define TAKE(bytes) checked(malloc(bytes))
#define GIVE(block, bytes) ((void)(bytes), free(block))
#endif

enum { THREADS = 2, BLOCKS = 5000, PER_THREAD = 50000 };

typedef struct {
    unsigned char *block[BLOCKS];
    uint32_t bytes[BLOCKS];
    rng_t rng;
    uint64_t sum;
} table_t;

static table_t table[THREADS];
static long generations;

static uint32_t size_of(rng_t *rng) { return 8 + rng_below(rng, 993); }

static void *serve(void *argument) {
    table_t *t = argument;
    for (int i = 0; i < PER_THREAD; i++) {
        uint32_t victim = rng_below(&t->rng, BLOCKS), bytes = size_of(&t->rng);
        t->sum += t->block[victim][0];
        GIVE(t->block[victim], t->bytes[victim]);
        t->block[victim] = TAKE(bytes);
        t->bytes[victim] = bytes;
        t->block[victim][0] = (unsigned char)bytes;
        t->block[victim][bytes - 1] = 1;
    }
    return NULL;
}

static void *lead(void *argument) {
    table_t *t = &table[(long)argument];
    t->rng = rng_seeded(41 + (uint64_t)(long)argument);
    for (int i = 0; i < BLOCKS; i++) {
        t->bytes[i] = size_of(&t->rng);
        t->block[i] = TAKE(t->bytes[i]);
        t->block[i][0] = (unsigned char)t->bytes[i];
    }
    for (long i = 0; i < generations; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, t)) exit(1);
        pthread_join(thread, NULL);
    }
    return NULL;
}

int main(int argc, char **argv) {
    generations = work_units(argc, argv);
    in_threads(THREADS, lead);
    printf("%llu\n", (unsigned long long)(table[0].sum + table[1].sum));
    return 0;
}
