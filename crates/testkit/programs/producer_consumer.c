/* Two producers make 20000 blocks each, two consumers free them: every free is on another
 * thread than its malloc, in the order of a bounded queue. */
#include "counted.h"
#include <pthread.h>

enum { PER_PRODUCER = 20000, QUEUE = 256 };
static void *queue[QUEUE];
static unsigned head, tail, closed;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t not_empty = PTHREAD_COND_INITIALIZER, not_full = PTHREAD_COND_INITIALIZER;

static void *produce(void *unused) {
    (void)unused;
    for (int i = 0; i < PER_PRODUCER; i++) {
        void *block = take(SIZE(i % 60));
        pthread_mutex_lock(&lock);
        while (head - tail == QUEUE) pthread_cond_wait(&not_full, &lock);
        queue[head++ % QUEUE] = block;
        pthread_cond_signal(&not_empty);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void *consume(void *unused) {
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&lock);
        while (head == tail && !closed) pthread_cond_wait(&not_empty, &lock);
        if (head == tail) {
            pthread_mutex_unlock(&lock);
            return NULL;
        }
        void *block = queue[tail++ % QUEUE];
        pthread_cond_signal(&not_full);
        pthread_mutex_unlock(&lock);
        give(block);
    }
}

int main(void) {
    pthread_t producers[2], consumers[2];
    for (int i = 0; i < 2; i++) {
        require(pthread_create(&producers[i], NULL, produce, NULL) == 0, "thread");
        require(pthread_create(&consumers[i], NULL, consume, NULL) == 0, "thread");
    }
    for (int i = 0; i < 2; i++) pthread_join(producers[i], NULL);
    pthread_mutex_lock(&lock);
    closed = 1;
    pthread_cond_broadcast(&not_empty);
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < 2; i++) pthread_join(consumers[i], NULL);
    print_counts();
    return 0;
}
