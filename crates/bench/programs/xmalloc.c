// Shape of xmalloc-test: one thread only allocates, another only frees, batch by batch through
// a short queue; sizes from a fixed list. With two CPUs that is one pair.
#include "workload.h"

enum { BATCH = 4096, QUEUE = 4 };

typedef struct {
    unsigned char *block[BATCH];
} batch_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static batch_t *queue[QUEUE];
static int queued;
static long batches;
static uint64_t sum;

static void *allocate(void) {
    static const uint16_t sizes[] = {8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512};
    rng_t rng = rng_seeded(8);
    for (long b = 0; b < batches; b++) {
        batch_t *batch = checked(malloc(sizeof *batch));
        for (int i = 0; i < BATCH; i++) {
            uint32_t bytes = sizes[rng_below(&rng, sizeof sizes / sizeof *sizes)];
            batch->block[i] = checked(malloc(bytes));
            batch->block[i][0] = (unsigned char)bytes;
        }
        pthread_mutex_lock(&lock);
        while (queued == QUEUE) pthread_cond_wait(&changed, &lock);
        queue[queued++] = batch;
        pthread_cond_signal(&changed);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}
static void *release(void) {
    for (long b = 0; b < batches; b++) {
        pthread_mutex_lock(&lock);
        while (queued == 0) pthread_cond_wait(&changed, &lock);
        batch_t *batch = queue[--queued];
        pthread_cond_signal(&changed);
        pthread_mutex_unlock(&lock);
        for (int i = 0; i < BATCH; i++) {
            sum += batch->block[i][0];
            free(batch->block[i]);
        }
        free(batch);
    }
    return NULL;
}
static void *work(void *argument) { return argument ? release() : allocate(); }

int main(int argc, char **argv) {
    batches = work_units(argc, argv) * 10;
    in_threads(2, work);
    printf("%llu\n", (unsigned long long)sum);
    return 0;
}
