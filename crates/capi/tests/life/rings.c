// Mode compact beside io_uring: registered buffers pin pages for the kernel, which then reads and
// writes physical memory without looking at addresses. A window with such a page must stay as it is;
// its neighbours are merged. Requests under way without registered buffers look up addresses late.
#include "check.h"
#include <linux/io_uring.h>
#include <sys/uio.h>

enum { COUNT = 20000, BYTES = 200, KEEP = 16, PINNED = 32, ROUNDS = 3, ENTRIES = 64 };

// The beginning of heapwright_merging_t.
typedef struct {
    const char *state;
    uint64_t works, passes, windows, merged, refused;
} merging_t;
__attribute__((weak)) int heapwright_merging(merging_t *out, size_t bytes);
__attribute__((weak)) size_t heapwright_release(void);

typedef struct {
    int fd;
    unsigned *tail, *mask, *array, *done_head, *done_tail, *done_mask;
    struct io_uring_sqe *requests;
    struct io_uring_cqe *done;
} ring_t;

static unsigned char *blocks[COUNT];
// Indices of survivors whose memory is registered.
static int pinned[PINNED];

static int is_kept(int i) { return (i * 7 + i / 64) % KEEP == 0; }

static unsigned char *map_ring(int fd, size_t bytes, off_t offset) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset);
    CHECK(at != MAP_FAILED);
    return at;
}

// False where the kernel or a sandbox has no io_uring.
static int open_ring(ring_t *ring) {
    struct io_uring_params given = {0};
    ring->fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &given);
    if (ring->fd < 0) {
        CHECK(errno == ENOSYS || errno == EPERM || errno == EACCES || errno == ENOMEM);
        return 0;
    }
    unsigned char *sq = map_ring(ring->fd, given.sq_off.array + given.sq_entries * 4, IORING_OFF_SQ_RING);
    unsigned char *cq =
        map_ring(ring->fd, given.cq_off.cqes + given.cq_entries * sizeof(struct io_uring_cqe), IORING_OFF_CQ_RING);
    ring->requests = (void *)map_ring(ring->fd, given.sq_entries * sizeof(struct io_uring_sqe), IORING_OFF_SQES);
    ring->tail = (unsigned *)(sq + given.sq_off.tail);
    ring->mask = (unsigned *)(sq + given.sq_off.ring_mask);
    ring->array = (unsigned *)(sq + given.sq_off.array);
    ring->done_head = (unsigned *)(cq + given.cq_off.head);
    ring->done_tail = (unsigned *)(cq + given.cq_off.tail);
    ring->done_mask = (unsigned *)(cq + given.cq_off.ring_mask);
    ring->done = (struct io_uring_cqe *)(cq + given.cq_off.cqes);
    return 1;
}

static void submit(ring_t *ring, int operation, int fd, void *at, unsigned buffer) {
    unsigned tail = *ring->tail, place = tail & *ring->mask;
    struct io_uring_sqe *request = &ring->requests[place];
    memset(request, 0, sizeof *request);
    request->opcode = (uint8_t)operation;
    request->fd = fd;
    request->addr = (uintptr_t)at;
    request->len = BYTES;
    request->off = (uint64_t)-1;
    request->buf_index = (uint16_t)buffer;
    ring->array[place] = place;
    __atomic_store_n(ring->tail, tail + 1, __ATOMIC_RELEASE);
    CHECK(syscall(SYS_io_uring_enter, ring->fd, 1, 0, 0, NULL, 0) == 1);
}

// Waits for a request's end: all of its bytes were read or written.
static void finish(ring_t *ring) {
    unsigned head = *ring->done_head;
    while (head == __atomic_load_n(ring->done_tail, __ATOMIC_ACQUIRE)) {
        long got = syscall(SYS_io_uring_enter, ring->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
        CHECK(got >= 0 || errno == EINTR);
    }
    CHECK(ring->done[head & *ring->done_mask].res == BYTES);
    __atomic_store_n(ring->done_head, head + 1, __ATOMIC_RELEASE);
}

static void make_all(void) {
    for (int i = 0; i < COUNT; i++) {
        CHECK(blocks[i] = malloc(BYTES));
        memset(blocks[i], i & 0xff, BYTES);
    }
}

static void make_sparse(void) {
    for (int i = 0; i < COUNT; i++)
        if (!is_kept(i)) free(blocks[i]);
}

static void check_block(int i, int value) {
    for (int at = 0; at < BYTES; at++) CHECK(blocks[i][at] == (value & 0xff));
}

// All survivors but the first `from` of `pinned` hold what they were made with.
static void check_others(int from) {
    for (int i = 0; i < COUNT; i++) {
        int is_pinned = 0;
        for (int k = 0; k < from; k++) is_pinned |= pinned[k] == i;
        if (is_kept(i) && !is_pinned) check_block(i, i);
    }
}

static merging_t state(void) {
    merging_t merging = {0};
    CHECK(heapwright_merging && heapwright_merging(&merging, sizeof merging) == 0);
    CHECK(merging.works == 1 || merging.merged == 0);
    return merging;
}

static void release(void) {
    for (int i = 0; i < 3; i++) heapwright_release();
}

static void write_pipe(int fd, int value) {
    unsigned char bytes[BYTES];
    memset(bytes, value, BYTES);
    CHECK(write(fd, bytes, BYTES) == BYTES);
}

// False where so much memory may not be pinned.
static int register_all(ring_t *ring, struct iovec *buffers) {
    if (syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_BUFFERS, buffers, PINNED) == 0) return 1;
    CHECK(errno == ENOMEM || errno == EPERM);
    return 0;
}

// The kernel reads into and writes from registered blocks, after and while everything is merged.
static void exchange(ring_t *ring, const int *ends, int salt) {
    for (int round = 0; round < ROUNDS; round++) {
        release();
        check_others(PINNED);
        for (int k = 0; k < PINNED; k++) {
            int value = 0x40 + round * PINNED + k + salt;
            write_pipe(ends[1], value);
            submit(ring, IORING_OP_READ_FIXED, ends[0], blocks[pinned[k]], (unsigned)k);
            if (k % 2) heapwright_release();
            finish(ring);
            check_block(pinned[k], value);
            // And the other way: what the program writes is what the kernel sends.
            memset(blocks[pinned[k]], ~value & 0xff, BYTES);
            if (k % 3 == 0) heapwright_release();
            submit(ring, IORING_OP_WRITE_FIXED, ends[1], blocks[pinned[k]], (unsigned)k);
            finish(ring);
            unsigned char bytes[BYTES];
            CHECK(read(ends[0], bytes, BYTES) == BYTES);
            for (int at = 0; at < BYTES; at++) CHECK(bytes[at] == (~value & 0xff));
        }
    }
}

static void registered(void) {
    ring_t ring;
    int ends[2];
    int has_ring = open_ring(&ring);
    CHECK(pipe(ends) == 0);
    make_all();
    struct iovec buffers[PINNED];
    int count = 0;
    // In pairs of neighbours, so that some pages have two.
    for (int i = 0; i < COUNT && count < PINNED; i++) {
        if (!is_kept(i) || i < count / 2 * 1000) continue;
        pinned[count] = i;
        buffers[count++] = (struct iovec){blocks[i], BYTES};
    }
    CHECK(count == PINNED);
    has_ring = has_ring && register_all(&ring, buffers);
    if (!has_ring) {
        // Nothing is pinned: what is left to show is that everything merges and stays whole.
        make_sparse();
        release();
        check_others(0);
        printf("no io_uring, %s\n", state().state);
        return;
    }
    make_sparse();
    exchange(&ring, ends, 0);
    merging_t merging = state();
    // What is pinned was refused, and the rest was merged.
    CHECK(!merging.works || (merging.merged > 0 && merging.refused > 0));
    CHECK(syscall(SYS_io_uring_register, ring.fd, IORING_UNREGISTER_BUFFERS, NULL, 0) == 0);
    release();
    for (int k = 0; k < PINNED; k++) check_block(pinned[k], ~(0x40 + (ROUNDS - 1) * PINNED + k));
    // Now what is registered was merged before; it must not be merged again.
    if (register_all(&ring, buffers)) exchange(&ring, ends, 7);
    check_others(PINNED);
    for (int i = 0; i < COUNT; i++)
        if (is_kept(i)) free(blocks[i]);
    printf("pinned, %s\n", merging.state);
}

// Reads that wait for their data while the memory that they will write is merged.
static void waiting(void) {
    ring_t ring;
    if (!open_ring(&ring)) {
        make_all();
        make_sparse();
        release();
        check_others(0);
        printf("no io_uring, %s\n", state().state);
        return;
    }
    make_all();
    make_sparse();
    int index = 0;
    for (int round = 0; round < 24; round++) {
        while (!is_kept(index)) index++;
        int ends[2];
        CHECK(pipe(ends) == 0);
        if (round % 2) release();
        submit(&ring, IORING_OP_READ, ends[0], blocks[index], 0);
        release();
        write_pipe(ends[1], 0xe0 + round);
        if (round % 3 == 0) release();
        finish(&ring);
        check_block(index, 0xe0 + round);
        memset(blocks[index], index & 0xff, BYTES);
        CHECK(close(ends[0]) == 0 && close(ends[1]) == 0);
        index += 700;
    }
    check_others(0);
    printf("waited, %s\n", state().state);
}

static void *idles(void *argument) {
    for (;;) pause();
    return argument;
}

static void with_a_thread(void (*body)(void)) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, idles, NULL) == 0);
    body();
}

static void registered_threads(void) { with_a_thread(registered); }
static void waiting_threads(void) { with_a_thread(waiting); }

// What can be had here.
static void has(void) {
    ring_t ring;
    unsigned char *bytes = malloc(BYTES);
    struct iovec buffers[PINNED];
    for (int k = 0; k < PINNED; k++) buffers[k] = (struct iovec){bytes, BYTES};
    int has_ring = open_ring(&ring);
    puts(!has_ring ? "nothing" : register_all(&ring, buffers) ? "buffers" : "rings");
    free(bytes);
}

static void forbidden(void) {
    forbid(SYS_io_uring_setup);
    registered();
    waiting();
}

int main(int argc, char **argv) {
    static const case_t cases[] = {
        {"registered", registered},
        {"registered_threads", registered_threads},
        {"waiting", waiting},
        {"waiting_threads", waiting_threads},
        {"forbidden", forbidden},
        {"has", has},
        {NULL, NULL},
    };
    return run_case(cases, argc, argv);
}
