// What stays resident after a burst: threads fill memory with blocks of 32 B to 4 KiB (the
// logarithms of their sizes are even), free all but one in sixteen, and do nothing more.
//   burst MB SECONDS THREADS   MB in all. Rests SECONDS, is measured, reads every survivor, rests a
//                              second, is measured again; then bursts again on top. With one
//                              thread that is the only one of the process, and calls malloc_trim
//                              before it rests.
// Prints KiB: requested bytes of survivors, resident at rest, resident after reading, peak; then
// milliseconds of the first and of the next burst; then of merging, where there is such a thing:
// KiB freed, its CPU microseconds, nanoseconds of the longest step and of the longest time that the
// only thread was held up; then, of the process, CPU milliseconds of the first and of the next burst
// and page faults of both: where the host of a guest has taken memory back that nobody used, time
// says whether it had to give it anew, and these do not. Resident is the growth of the proportional set size, without the list of
// blocks, which is not malloc's. The third figure is the one to judge an allocator by that merges
// pages into a file: what of the file nobody has touched since is in no process's figure.
#include "workload.h"
#include <malloc.h>
#include <math.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

enum { THREADS_MAX = 64, KEEP = 16, BYTES_MIN = 32, DOUBLINGS = 7, BURSTS = 2 };

typedef struct {
    unsigned char *start;
    uint32_t bytes;
} block_t;

// As in heapwright.h.
typedef struct {
    const char *state;
    uint64_t works, passes, windows, merged, refused;
    int64_t freed_bytes;
    uint64_t cpu_ns, step_ns_max, step_cpu_ns_max, stretch_cpu_ns_max, stretches;
} merging_t;
__attribute__((weak)) int heapwright_merging(merging_t *out, size_t bytes);

static int threads;
static long share_bytes;
static block_t *lists[BURSTS][THREADS_MAX];
static long counts[BURSTS][THREADS_MAX];
static _Atomic long live_bytes;
static pthread_barrier_t turn;

static size_t list_bytes(void) { return (size_t)(share_bytes / 256) * sizeof(block_t); }

static void burst(long index, int number) {
    rng_t rng = rng_seeded(31 + (uint64_t)index + 1000 * (uint64_t)number);
    block_t *list = lists[number][index];
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
    counts[number][index] = kept;
    live_bytes += live;
}

static void *works(void *argument) {
    for (int number = 0; number < BURSTS; number++) {
        pthread_barrier_wait(&turn);
        burst((long)argument, number);
        pthread_barrier_wait(&turn);
    }
    pthread_barrier_wait(&turn);
    return NULL;
}

typedef struct {
    double wall_ms, cpu_ms;
    long faults;
} cost_t;

// What the process has taken so far.
static cost_t cost_now(void) {
    struct rusage used;
    if (getrusage(RUSAGE_SELF, &used)) exit(1);
    double seconds = (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec);
    double micros = (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    return (cost_t){now_ms(), seconds * 1e3 + micros / 1e3, used.ru_minflt};
}

// What a burst in all threads takes.
static cost_t bursts(int number) {
    cost_t start = cost_now();
    if (threads == 1) {
        burst(0, number);
    } else {
        pthread_barrier_wait(&turn);
        pthread_barrier_wait(&turn);
    }
    cost_t end = cost_now();
    return (cost_t){end.wall_ms - start.wall_ms, end.cpu_ms - start.cpu_ms,
                    end.faults - start.faults};
}

static long resident_kib(void) { return kib_of("/proc/self/smaps_rollup", "Pss: %ld"); }

// Resident pages of the lists.
static long lists_kib(void) {
    static unsigned char pages[1 << 20];
    long kib = 0;
    for (int number = 0; number < BURSTS; number++)
        for (int i = 0; i < threads; i++) {
            size_t count = (list_bytes() + 4095) / 4096;
            if (count > sizeof pages || mincore(lists[number][i], list_bytes(), pages)) exit(1);
            for (size_t page = 0; page < count; page++) kib += (pages[page] & 1) * 4;
        }
    return kib;
}

int main(int argc, char **argv) {
    threads = argc > 3 ? atoi(argv[3]) : 8;
    if (threads < 1 || threads > THREADS_MAX) return 2;
    share_bytes = work_units(argc, argv) * (1000000L / threads);
    unsigned seconds = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
    for (int number = 0; number < BURSTS; number++)
        for (int i = 0; i < threads; i++) {
            lists[number][i] = mmap(NULL, list_bytes(), PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (lists[number][i] == MAP_FAILED) return 1;
        }
    pthread_t ids[THREADS_MAX];
    pthread_barrier_init(&turn, NULL, (unsigned)threads + 1);
    long before = resident_kib();
    for (long i = 0; threads > 1 && i < threads; i++)
        if (pthread_create(&ids[i], NULL, works, (void *)i)) return 1;
    cost_t first = bursts(0);
    long peak = kib_of("/proc/self/status", "VmHWM: %ld") - before - lists_kib();
    if (threads == 1) malloc_trim(0);
    sleep(seconds);
    long idle = resident_kib() - before - lists_kib();
    unsigned long sum = 0;
    for (int i = 0; i < threads; i++)
        for (long b = 0; b < counts[0][i]; b++)
            for (uint32_t at = 0; at < lists[0][i][b].bytes; at += 16)
                sum += lists[0][i][b].start[at];
    sleep(1);
    long after = resident_kib() - before - lists_kib(), live = live_bytes / 1024;
    merging_t merging = {0};
    if (heapwright_merging) heapwright_merging(&merging, sizeof merging);
    cost_t next = bursts(1);
    printf("%ld %ld %ld %ld %.1f %.1f %lld %.0f %llu %llu", live, idle, after, peak, first.wall_ms,
           next.wall_ms, (long long)merging.freed_bytes / 1024, (double)merging.cpu_ns / 1e3,
           (unsigned long long)merging.step_cpu_ns_max,
           (unsigned long long)merging.stretch_cpu_ns_max);
    printf(" %.1f %.1f %ld %ld\n", first.cpu_ms, next.cpu_ms, first.faults, next.faults);
    fprintf(stderr, "%lu %s\n", sum, merging.state ? merging.state : "");
    if (threads > 1) {
        pthread_barrier_wait(&turn);
        for (int i = 0; i < threads; i++) pthread_join(ids[i], NULL);
    }
    return 0;
}
