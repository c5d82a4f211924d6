// Mode compact where it cannot work, and under a debugger: each case merges what it can, looks at
// every byte, and prints what heapwright_merging says.
#include "check.h"
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>

enum { COUNT = 20000, BYTES = 200, KEEP = 16 };

// The beginning of heapwright_merging_t.
typedef struct {
    const char *state;
    uint64_t works, passes, windows, merged, refused;
    int64_t freed_bytes;
} merging_t;
__attribute__((weak)) int heapwright_merging(merging_t *out, size_t bytes);
__attribute__((weak)) size_t heapwright_release(void);

static unsigned char *blocks[COUNT];
#ifdef LARGE_STORAGE
// More than fits on the stack of a thread that needs little.
static __thread volatile char storage[1 << 20];
#endif

static int is_kept(int i) { return (i * 7 + i / 64) % KEEP == 0; }

static void make_sparse(void) {
    for (int i = 0; i < COUNT; i++) {
        CHECK(blocks[i] = malloc(BYTES));
        memset(blocks[i], i & 0xff, BYTES);
    }
    for (int i = 0; i < COUNT; i++)
        if (!is_kept(i)) free(blocks[i]);
}

static void check_all(void) {
    for (int i = 0; i < COUNT; i++)
        for (int at = 0; is_kept(i) && at < BYTES; at++) CHECK(blocks[i][at] == (i & 0xff));
}

static void print_state(void) {
    merging_t merging = {0};
    CHECK(heapwright_merging && heapwright_merging(&merging, sizeof merging) == 0);
    CHECK(merging.works == 1 || merging.merged == 0);
    printf("%s\n", merging.state);
}

static void merge_and_look(void) {
    make_sparse();
    heapwright_release();
    check_all();
    // What is merged can be written, and holds the writes.
    for (int i = 0; i < COUNT; i++)
        if (is_kept(i)) memset(blocks[i], ~i & 0xff, BYTES);
    heapwright_release();
    for (int i = 0; i < COUNT; i++)
        for (int at = 0; is_kept(i) && at < BYTES; at++) CHECK(blocks[i][at] == (~i & 0xff));
    for (int i = 0; i < COUNT; i++)
        if (is_kept(i)) free(blocks[i]);
    // And what was merged is zero where zeroes are asked for.
    for (int i = 0; i < COUNT; i++) {
        CHECK(blocks[i] = calloc(1, BYTES));
        for (int at = 0; at < BYTES; at++) CHECK(blocks[i][at] == 0);
    }
    print_state();
}

static void *waits(void *argument) {
#ifdef LARGE_STORAGE
    storage[1] = 1;
#endif
    for (;;) pause();
    return argument;
}

static void with_a_thread(void) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, waits, NULL) == 0);
}

static void alone(void) { merge_and_look(); }

static void threads(void) {
    with_a_thread();
    merge_and_look();
}

// One thread allocates, another never does; nobody asks for a merge.
static void helpers(void) {
    with_a_thread();
    make_sparse();
    merging_t merging = {0};
    int is_tried = 0;
    for (int look = 0; look < 4000 && !is_tried; look++) {
        for (int i = 0; i < 200; i++) free(malloc(16 + (size_t)i * 16));
        usleep(10000);
        CHECK(heapwright_merging && heapwright_merging(&merging, sizeof merging) == 0);
        // Works, or was refused.
        is_tried = merging.works ? merging.merged > 0 : strcmp(merging.state, "not tried yet") != 0;
    }
    CHECK(is_tried);
    check_all();
    print_state();
}

static void no_faults(void) {
    forbid(SYS_userfaultfd);
    merge_and_look();
}

static void no_file(void) {
    forbid(SYS_memfd_create);
    merge_and_look();
}

static void short_files(void) {
    struct rlimit limit = {4096, 4096};
    CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    merge_and_look();
}

static void no_descriptors(void) {
    forbid(SYS_close_range);
    with_a_thread();
    merge_and_look();
}

static void no_rights(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct nothing[2] = {0};
    CHECK(syscall(SYS_capset, &header, nothing) == 0);
    with_a_thread();
    merge_and_look();
}

static void no_rights_alone(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct nothing[2] = {0};
    CHECK(syscall(SYS_capset, &header, nothing) == 0);
    merge_and_look();
}

// Every other page of a mapping is of another kind, until three quarters of the mappings are used.
static void no_mappings(void) {
    long limit = 65530;
    FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
    if (file && fscanf(file, "%ld", &limit) != 1) limit = 65530;
    if (file) fclose(file);
    if (limit > 200000) {
        puts("too many mappings");
        return;
    }
    size_t pages = (size_t)limit * 3 / 4 + 16;
    char *all = mmap(NULL, pages * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(all != MAP_FAILED);
    for (size_t page = 0; page < pages; page += 2)
        CHECK(mprotect(all + page * 4096, 4096, PROT_READ) == 0);
    merge_and_look();
}

// A child by vfork, and a program in it, see and change nothing of what is merged.
static void vfork_exec(void) {
    with_a_thread();
    make_sparse();
    for (int i = 0; i < 100; i++) {
        if (i % 10 == 0) heapwright_release();
        pid_t child = vfork();
        CHECK(child >= 0);
        if (child == 0) {
            for (int k = 0; k < COUNT; k += 97)
                if (is_kept(k) && blocks[k][5] != (k & 0xff)) _exit(3);
            execl("/bin/true", "true", (char *)NULL);
            _exit(4);
        }
        int status;
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    check_all();
    print_state();
}

// For a debugger: one block, found by its symbol, is changed from outside while everything is
// merged again and again.
unsigned char *watched;
volatile int is_ready, is_over;
static void debugged(void) {
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    with_a_thread();
    make_sparse();
    heapwright_release();
    for (int i = COUNT / 2; !watched; i++)
        if (is_kept(i)) watched = blocks[i];
    is_ready = 1;
    puts("ready");
    fflush(stdout);
    while (!is_over) heapwright_release();
    for (int at = 0; at < BYTES; at++) CHECK(watched[at] == (at == 7 ? 201 : watched[0]));
    for (int i = 0; i < COUNT; i++)
        for (int at = 0; is_kept(i) && blocks[i] != watched && at < BYTES; at++)
            CHECK(blocks[i][at] == (i & 0xff));
    print_state();
}

int main(int argc, char **argv) {
    static const case_t cases[] = {
        {"alone", alone},
        {"threads", threads},
        {"helpers", helpers},
        {"no_faults", no_faults},
        {"no_file", no_file},
        {"short_files", short_files},
        {"no_descriptors", no_descriptors},
        {"no_rights", no_rights},
        {"no_rights_alone", no_rights_alone},
        {"no_mappings", no_mappings},
        {"vfork_exec", vfork_exec},
        {"debugged", debugged},
        {NULL, NULL},
    };
    return run_case(cases, argc, argv);
}
