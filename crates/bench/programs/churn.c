// Shape of redis with keys that expire: a table whose entries are three blocks (entry of 24 B, name
// of 16 to 48 B, value of 64 B to 4 KiB, the logarithms of the sizes even), one thread. Values are
// set at random, each with a time to live; what has expired is looked for at random, as redis does.
//   churn MB SECONDS   MB of slots. Sets ten times as much, rests SECONDS with little traffic, is
//                      measured; then two thirds expire, and the same again.
// Prints KiB: requested and usable bytes that are live, resident; the three again at low tide; peak;
// and milliseconds of the traffic before the first rest. Resident is the growth of the proportional set
// size without the table of slots, after every live value was read.
#include "workload.h"
#include <malloc.h>
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

enum { VALUE_MIN = 64, VALUE_DOUBLINGS = 6, VALUE_MEAN = 970, SAMPLES = 4, TURNS = 10, SWINGS = 3 };

typedef struct {
    unsigned char *name;
    unsigned char *value;
    uint32_t name_bytes;
    uint32_t value_bytes;
} entry_t;
typedef struct {
    entry_t *entry;
    long expires;
} slot_t;

static slot_t *slots;
static long slot_count, live_bytes, now;

static void drop(slot_t *slot) {
    entry_t *entry = slot->entry;
    live_bytes -= (long)(sizeof *entry + entry->name_bytes + entry->value_bytes);
    free(entry->name);
    free(entry->value);
    free(entry);
    slot->entry = NULL;
}

static void set(rng_t *rng) {
    slot_t *slot = &slots[rng_below(rng, (uint32_t)slot_count)];
    if (slot->entry) drop(slot);
    entry_t *entry = checked(malloc(sizeof *entry));
    entry->name_bytes = 16 + rng_below(rng, 33);
    entry->value_bytes = (uint32_t)(VALUE_MIN * exp2(VALUE_DOUBLINGS * (rng_next(rng) / 4294967296.0)));
    entry->name = checked(malloc(entry->name_bytes));
    entry->value = checked(malloc(entry->value_bytes));
    memset(entry->name, (int)now & 0xff, entry->name_bytes);
    memset(entry->value, (int)now & 0xff, entry->value_bytes);
    live_bytes += (long)(sizeof *entry + entry->name_bytes + entry->value_bytes);
    slot->entry = entry;
    slot->expires = now + rng_below(rng, (uint32_t)(2 * slot_count));
}

// A moment: sets with the chance `chance` in 256, and looks for what has expired.
static void tick(rng_t *rng, uint32_t chance) {
    now++;
    if (rng_below(rng, 256) < chance) set(rng);
    for (int i = 0; i < SAMPLES; i++) {
        slot_t *slot = &slots[rng_below(rng, (uint32_t)slot_count)];
        if (slot->entry && slot->expires < now) drop(slot);
    }
}

// Light traffic for some seconds, during which what is live stays about the same.
static void rest(rng_t *rng, unsigned seconds) {
    for (unsigned i = 0; i < seconds * 100; i++) {
        struct timespec pause = {0, 10000000};
        nanosleep(&pause, NULL);
        for (int k = 0; k < 200; k++) {
            tick(rng, k % 8 == 0 ? 256 : 0);
            now--;
        }
    }
}

// Resident after every live value was read; also the usable bytes of what is live.
static long measured(long before, long *usable_bytes) {
    uint64_t sum = 0;
    *usable_bytes = 0;
    for (long i = 0; i < slot_count; i++) {
        entry_t *entry = slots[i].entry;
        if (!entry) continue;
        for (uint32_t at = 0; at < entry->value_bytes; at += 16) sum += entry->value[at];
        sum += entry->name[0];
        *usable_bytes += (long)(malloc_usable_size(entry) + malloc_usable_size(entry->name) +
                                malloc_usable_size(entry->value));
    }
    fprintf(stderr, "%llu\n", (unsigned long long)sum);
    return kib_of("/proc/self/smaps_rollup", "Pss: %ld") - before;
}

int main(int argc, char **argv) {
    slot_count = work_units(argc, argv) * 1000000L / (VALUE_MEAN + 24 + 32);
    unsigned seconds = argc > 2 ? (unsigned)atoi(argv[2]) : 1;
    size_t bytes = (size_t)slot_count * sizeof(slot_t);
    slots = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (slots == MAP_FAILED) return 1;
    long before = kib_of("/proc/self/smaps_rollup", "Pss: %ld");
    rng_t rng = rng_seeded(51);
    for (long i = 0; i < slot_count; i++) set(&rng);
    double start = now_ms();
    long moments = TURNS * slot_count;
    for (long i = 0; i < moments; i++) {
        // Swings between full traffic and three quarters of it.
        double phase = cos(6.283185307179586 * SWINGS * (double)i / (double)moments);
        tick(&rng, (uint32_t)(224 + 32 * phase));
    }
    double spent_ms = now_ms() - start;
    rest(&rng, seconds);
    long usable, ebb_usable;
    long live = live_bytes / 1024, resident = measured(before, &usable);
    // The tide goes out: until a third is left.
    while (live_bytes > live * 1024 / 3) tick(&rng, 32);
    rest(&rng, seconds);
    long ebb_live = live_bytes / 1024, ebb_resident = measured(before, &ebb_usable);
    long peak = kib_of("/proc/self/status", "VmHWM: %ld") - before;
    printf("%ld %ld %ld %ld %ld %ld %ld %.1f\n", live, usable / 1024, resident, ebb_live,
           ebb_usable / 1024, ebb_resident, peak, spent_ms);
    return 0;
}
