// What stays resident after a burst: eight threads fill memory with blocks of 32 B to 4 KiB (the
// logarithms of their sizes are even), free all but one in sixteen, and do nothing more.
//   burst MB SECONDS     MB in all; rests SECONDS, is measured, reads every survivor, rests a
//                        second, is measured again
// Prints KiB: requested bytes of survivors, resident at rest, resident after reading. Resident is
// the growth of the proportional set size, without the list of blocks, which is not malloc's. The
// second figure is the one to judge an allocator by that merges pages into a file: what of the file
// nobody has touched since is in no process's figure.
#include "workload.h"
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

enum { THREADS = 8, KEEP = 16, BYTES_MIN = 32, DOUBLINGS = 7 };

typedef struct {
    unsigned char *start;
    uint32_t bytes;
} block_t;

static long share_bytes;
static block_t *lists[THREADS];
static long counts[THREADS];
static _Atomic long live_bytes;
static pthread_barrier_t rested;

static size_t list_bytes(void) { return (size_t)(share_bytes / 256) * sizeof(block_t); }

static void *works(void *argument) {
    long index = (long)argument;
    rng_t rng = rng_seeded(31 + (uint64_t)index);
    block_t *list = mmap(NULL, list_bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (list == MAP_FAILED) exit(1);
    long room = (long)(list_bytes() / sizeof *list), count = 0;
    for (long filled = 0; filled < share_bytes && count < room; count++) {
        double even = rng_next(&rng) / 4294967296.0;
        uint32_t bytes = (uint32_t)(BYTES_MIN * exp2(DOUBLINGS * even));
        list[count] = (block_t){checked(malloc(bytes)), bytes};
        memset(list[count].start, (int)(count & 0xff), bytes);
        filled += bytes;
    }
    long kept = 0, live = 0;
    for (long i = 0; i < count; i++) {
        if (rng_below(&rng, KEEP) == 0) {
            live += list[i].bytes;
            list[kept++] = list[i];
        } else {
            free(list[i].start);
        }
    }
    lists[index] = list;
    counts[index] = kept;
    live_bytes += live;
    pthread_barrier_wait(&rested);
    pthread_barrier_wait(&rested);
    return NULL;
}

static long resident_kib(void) {
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    char line[200];
    long kib = 0;
    while (file && fgets(line, sizeof line, file)) sscanf(line, "Pss: %ld", &kib);
    if (file) fclose(file);
    return kib;
}

// Resident pages of the lists.
static long lists_kib(void) {
    static unsigned char pages[1 << 20];
    long kib = 0;
    for (int i = 0; i < THREADS; i++) {
        size_t count = (list_bytes() + 4095) / 4096;
        if (count > sizeof pages || mincore(lists[i], list_bytes(), pages)) exit(1);
        for (size_t page = 0; page < count; page++) kib += (pages[page] & 1) * 4;
    }
    return kib;
}

int main(int argc, char **argv) {
    share_bytes = work_units(argc, argv) * (1000000L / THREADS);
    unsigned seconds = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
    pthread_t threads[THREADS];
    pthread_barrier_init(&rested, NULL, THREADS + 1);
    long before = resident_kib();
    for (long i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, works, (void *)i)) exit(1);
    pthread_barrier_wait(&rested);
    sleep(seconds);
    long idle = resident_kib() - before - lists_kib();
    unsigned long sum = 0;
    for (int i = 0; i < THREADS; i++)
        for (long b = 0; b < counts[i]; b++)
            for (uint32_t at = 0; at < lists[i][b].bytes; at += 16) sum += lists[i][b].start[at];
    sleep(1);
    long after = resident_kib() - before - lists_kib();
    printf("%ld %ld %ld\n", live_bytes / 1024, idle, after);
    fprintf(stderr, "%lu\n", sum);
    pthread_barrier_wait(&rested);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    return 0;
}
