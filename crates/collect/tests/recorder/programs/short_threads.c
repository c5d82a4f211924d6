/* 10000 threads, 20 at a time, each with three blocks, one of them freed by a destructor of
 * thread-specific data that asks for three more rounds. Prints the growth of its own mappings. */
#include "counted.h"
#include <pthread.h>

static pthread_key_t key;

static void again(void *value) {
    char *block = value;
    if (block[0]++ < 3) {
        pthread_setspecific(key, value);
        give(take(SIZE(7)));
        return;
    }
    give(block);
}

static void *work(void *unused) {
    (void)unused;
    void *a = take(SIZE(1)), *b = take(SIZE(2));
    char *late = take(SIZE(3));
    late[0] = 0;
    pthread_setspecific(key, late);
    give(a);
    give(b);
    return NULL;
}

static long mapped_pages(void) {
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r"); /* the sixth: private data and stacks */
    require(file != NULL && fscanf(file, "%*d %*d %*d %*d %*d %ld", &pages) == 1, "statm");
    fclose(file);
    return pages;
}

static void rounds(int count) {
    pthread_attr_t small; /* so that libc keeps all stacks for the next threads */
    pthread_attr_init(&small);
    require(pthread_attr_setstacksize(&small, 128 * 1024) == 0, "stack size");
    for (int round = 0; round < count; round++) {
        pthread_t threads[20];
        for (int i = 0; i < 20; i++)
            require(pthread_create(&threads[i], &small, work, NULL) == 0, "thread");
        for (int i = 0; i < 20; i++) pthread_join(threads[i], NULL);
    }
}

int main(void) {
    mallopt(M_ARENA_MAX, 1);
    require(pthread_key_create(&key, again) == 0, "key");
    rounds(100);
    long before = mapped_pages();
    rounds(400);
    long grown = mapped_pages() - before;
    char line[64];
    int n = snprintf(line, sizeof line, "grown %ld\n", grown);
    require(write(1, line, (size_t)n) == n, "write");
    print_counts();
    return 0;
}
