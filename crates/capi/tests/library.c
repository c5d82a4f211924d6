/* Every function of heapwright.h, used well and badly. Prints "conforms". */
#include "heapwright.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(what)                                                                          \
    do {                                                                                     \
        if (!(what)) {                                                                       \
            fprintf(stderr, "%s:%d: %s (status %d)\n", __FILE__, __LINE__, #what, error.status); \
            exit(1);                                                                         \
        }                                                                                    \
    } while (0)

static hw_error error;
static hw_statistics seen;

static bool aligned(const void *block, size_t align) { return (uintptr_t)block % align == 0; }

static void backings(void) {
    hw_backing *one = hw_backing_anonymous(&error);
    CHECK(one != NULL && error.status == HW_OK);
    hw_backing_delete(one);
    hw_backing_delete(NULL);
    CHECK(hw_backing_huge(7, false, &error) == NULL && error.status == HW_INVALID);
    CHECK(hw_backing_file(NULL, &error) == NULL && error.status == HW_INVALID);
    CHECK(hw_backing_buffer(NULL, 8, NULL) == NULL);
    CHECK(hw_backing_file("/no/such/directory/file", &error) == NULL);
    CHECK(error.status == HW_KERNEL && error.system_error == 2);
    CHECK(hw_backing_limited(NULL, 1, &error) == NULL && error.status == HW_INVALID);

    one = hw_backing_anonymous(&error);
    CHECK(hw_backing_chained(one, one, &error) == NULL && error.status == HW_INVALID);
    CHECK(hw_backing_on_nodes(one, HW_NODE_BIND, 0, &error) == NULL);
    CHECK(error.status == HW_INVALID);
    /* After an error it is still ours. */
    hw_backing *limited = hw_backing_limited(one, 100000, &error);
    CHECK(limited != NULL);
    hw_backing *guarded = hw_backing_guarded(limited, 0, &error);
    CHECK(guarded != NULL);
    static char buffer[4096];
    hw_backing *both =
        hw_backing_chained(hw_backing_buffer(buffer, sizeof buffer, NULL), guarded, &error);
    CHECK(both != NULL);
    hw_pool *pool = hw_pool_new(both, 1000, 0, 0, &error);
    CHECK(pool != NULL);
    size_t count = 0;
    void *block;
    while ((block = hw_pool_alloc(pool, &error)) != NULL) {
        memset(block, 1, 1000);
        count++;
    }
    CHECK(error.status == HW_OVER_LIMIT && error.limit_bytes == 100000);
    CHECK(count >= 50 && count <= 104);
    hw_pool_delete(pool);

    hw_backing *huge = hw_backing_huge(HW_HUGE_2M, false, &error);
    hw_linear *linear = hw_linear_new(huge, &error);
    CHECK(linear != NULL && hw_linear_alloc(linear, 5000000, 0, &error) != NULL);
    hw_linear_delete(linear);

    hw_backing *temporary = hw_backing_temporary("/tmp", &error);
    if (temporary != NULL) {
        linear = hw_linear_new(temporary, &error);
        char *bytes = hw_linear_alloc_zeroed(linear, 300000, 64, &error);
        CHECK(bytes != NULL && bytes[0] == 0 && bytes[299999] == 0 && aligned(bytes, 64));
        memset(bytes, 1, 300000);
        hw_linear_delete(linear);
    }
    char name[64];
    snprintf(name, sizeof name, "heapwright-c-%d", (int)getpid());
    hw_backing *shared = hw_backing_shared(name, &error);
    if (shared != NULL) {
        CHECK(hw_backing_shared(name, &error) == NULL && error.status == HW_IN_USE);
        hw_backing_delete(shared);
        char shown[96];
        snprintf(shown, sizeof shown, "/dev/shm/%s", name);
        unlink(shown);
    }
    char path[96];
    snprintf(path, sizeof path, "/tmp/%s", name);
    linear = hw_linear_new(hw_backing_file(path, &error), &error);
    CHECK(linear != NULL && hw_linear_alloc(linear, 10, 0, NULL) != NULL);
    hw_linear_delete(linear);
    CHECK(hw_backing_file(path, &error) == NULL && error.status == HW_NOT_EMPTY);
    unlink(path);
}

static void linear(void) {
    hw_linear *arena = hw_linear_new(NULL, &error);
    CHECK(arena != NULL);
    CHECK(hw_linear_alloc(NULL, 1, 0, &error) == NULL && error.status == HW_INVALID);
    CHECK(hw_linear_alloc(arena, 1, 3, &error) == NULL && error.status == HW_INVALID);
    CHECK(hw_linear_alloc(arena, SIZE_MAX, 0, &error) == NULL && error.status == HW_TOO_LARGE);
    CHECK(error.requested_bytes == SIZE_MAX);
    int *numbers = hw_linear_alloc(arena, 100 * sizeof *numbers, 0, NULL);
    CHECK(numbers != NULL && aligned(numbers, 16));
    for (int i = 0; i < 100; i++) numbers[i] = i;
    int *grown = hw_linear_resize(arena, numbers, 400, 4000, 0, &error);
    CHECK(grown == numbers && grown[99] == 99);
    CHECK(hw_linear_resize(arena, grown, 4000, 40, 0, &error) == numbers);
    CHECK(hw_linear_resize(arena, NULL, 1, 2, 0, &error) == NULL && error.status == HW_INVALID);
    char *text = hw_linear_copy_text(arena, "a text", &error);
    CHECK(strcmp(text, "a text") == 0);
    CHECK(hw_linear_copy_text(arena, NULL, &error) == NULL && error.status == HW_INVALID);
    CHECK(aligned(hw_linear_alloc(arena, 1, 8192, NULL), 8192));

    hw_linear_mark mark;
    CHECK(hw_linear_get_mark(arena, &mark) == HW_OK);
    CHECK(hw_linear_get_mark(arena, NULL) == HW_INVALID);
    char *inner = hw_linear_alloc(arena, 3000000, 0, &error);
    CHECK(inner != NULL);
    memset(inner, 7, 3000000);
    CHECK(hw_linear_rewind(arena, &mark, &error) == HW_OK && numbers[9] == 9);
    CHECK(hw_linear_statistics(arena, &seen) == HW_OK && seen.committed_bytes > 3000000);
    CHECK(hw_linear_statistics(arena, NULL) == HW_INVALID);
    CHECK(hw_linear_statistics(NULL, &seen) == HW_INVALID);
    CHECK(hw_linear_reset(arena, 1 << 16) == HW_OK);
    CHECK(hw_linear_rewind(arena, &mark, &error) == HW_STALE);
    CHECK(hw_linear_rewind(arena, NULL, &error) == HW_INVALID);
    CHECK(hw_linear_statistics(arena, &seen) == HW_OK && seen.live_count == 0);
    CHECK(hw_linear_reset(arena, SIZE_MAX) == HW_OK && hw_linear_reset(NULL, 0) == HW_INVALID);
    hw_linear_delete(arena);
    hw_linear_delete(NULL);
}

static void stack(void) {
    for (int defer = 0; defer < 2; defer++) {
        hw_stack *one = hw_stack_new(NULL, 10000, defer, &error);
        CHECK(one != NULL);
        hw_stack_mark mark;
        CHECK(hw_stack_get_mark(one, &mark) == HW_OK);
        char *first = hw_stack_alloc(one, false, 100, 0, &error);
        char *second = hw_stack_alloc(one, false, 200, 64, &error);
        char *other = hw_stack_alloc(one, true, 300, 0, &error);
        CHECK(first && second && other && aligned(second, 64) && other > second);
        memset(first, 1, 100);
        memset(second, 2, 200);
        memset(other, 3, 300);
        CHECK(hw_stack_alloc(one, true, 20000, 0, &error) == NULL && error.status == HW_FULL);
        CHECK(error.requested_bytes == 20000 && error.available_bytes < 10000);
        CHECK(hw_stack_free(one, first, &error) == (defer ? HW_OK : HW_OUT_OF_ORDER));
        CHECK(hw_stack_free(one, second, &error) == HW_OK);
        CHECK(hw_stack_free(one, other, &error) == HW_OK);
        if (!defer) CHECK(hw_stack_free(one, first, &error) == HW_OK);
        CHECK(hw_stack_free(one, &error, &error) == HW_NOT_OWNED && error.address != 0);
        CHECK(hw_stack_alloc(one, false, 100, 0, &error) != NULL);
        CHECK(hw_stack_rewind(one, &mark, &error) == HW_OK);
        CHECK(hw_stack_statistics(one, &seen) == HW_OK && seen.largest_free_bytes > 9000);
        hw_stack_delete(one);
    }
    CHECK(hw_stack_new(NULL, (size_t)1 << 40, false, &error) == NULL);
    CHECK(error.status == HW_UNFIT && error.limit_bytes == UINT32_MAX);
    CHECK(hw_stack_rewind(NULL, NULL, &error) == HW_INVALID);
    CHECK(hw_stack_free(NULL, NULL, NULL) == HW_INVALID);
    hw_stack_delete(NULL);
}

static void pool(void) {
    hw_pool *bounded = hw_pool_new(NULL, 100, 64, 3, &error);
    CHECK(bounded != NULL);
    void *blocks[3];
    for (int i = 0; i < 3; i++) {
        blocks[i] = hw_pool_alloc(bounded, &error);
        CHECK(blocks[i] != NULL && aligned(blocks[i], 64));
        memset(blocks[i], i, 100);
    }
    CHECK(hw_pool_alloc(bounded, &error) == NULL && error.status == HW_FULL);
    CHECK(hw_pool_free_checked(bounded, (char *)blocks[1] + 1, &error) == HW_NOT_BLOCK_START);
    CHECK(hw_pool_free_checked(bounded, &error, &error) == HW_NOT_OWNED);
    CHECK(hw_pool_free_checked(bounded, NULL, &error) == HW_INVALID);
    CHECK(hw_pool_free_checked(bounded, blocks[1], &error) == HW_OK);
    CHECK(hw_pool_free_checked(bounded, blocks[1], &error) == HW_ALREADY_FREE);
    CHECK(hw_pool_alloc(bounded, &error) == blocks[1]);
    hw_pool_free(bounded, blocks[0]);
    hw_pool_free(bounded, NULL);
    hw_pool_free(NULL, blocks[2]);
    CHECK(hw_pool_statistics(bounded, &seen) == HW_OK);
    CHECK(seen.live_count == 2 && seen.failure_count == 1);
    hw_pool_delete(bounded);
    CHECK(hw_pool_new(NULL, 8, 5, 0, &error) == NULL && error.status == HW_INVALID);
    CHECK(hw_pool_new(NULL, SIZE_MAX / 4, 0, 100, &error) == NULL && error.status == HW_TOO_LARGE);
    hw_pool_delete(NULL);
}

static void slab(void) {
    hw_slab *slab = hw_slab_new(NULL, 8 << 20, true, &error);
    CHECK(slab != NULL && error.status == HW_OK);
    char *blocks[100];
    for (size_t n = 0; n < 100; n++) {
        blocks[n] = hw_slab_alloc(slab, 10 + 30 * n, 64, &error);
        CHECK(blocks[n] != NULL && aligned(blocks[n], 64));
        memset(blocks[n], (int)n, 10 + 30 * n);
    }
    blocks[5] = hw_slab_resize(slab, blocks[5], 160, 5000, 64, &error);
    CHECK(blocks[5] != NULL && blocks[5][159] == 5);
    CHECK(hw_slab_resize(slab, NULL, 160, 5000, 64, &error) == NULL && error.status == HW_INVALID);
    CHECK(hw_slab_statistics(slab, &seen) == HW_OK && seen.live_count == 100);
    for (size_t n = 0; n < 100; n++) {
        size_t bytes = n == 5 ? 5000 : 10 + 30 * n;
        CHECK(blocks[n][9] == (char)n);
        hw_slab_free(slab, blocks[n], bytes, 64);
    }
    hw_slab_trim(slab);
    hw_slab_trim(NULL);
    hw_slab_free(slab, NULL, 1, 0);
    CHECK(hw_slab_statistics(slab, &seen) == HW_OK && seen.live_count == 0);
    CHECK(hw_slab_alloc(slab, 1, 3, &error) == NULL && error.status == HW_INVALID);
    CHECK(hw_slab_alloc(slab, 9 << 20, 0, &error) == NULL && error.status == HW_FULL);
    hw_slab_delete(slab);
    hw_slab_delete(NULL);
}

static void *addresses[2000];

static void moved(void *context, uint64_t handle, void *from, void *to, size_t bytes) {
    (void)handle;
    CHECK(from != to && bytes == 1000);
    ++*(size_t *)context;
}

static void visit_moved(void *context, uint64_t handle, void *block, size_t bytes) {
    CHECK(handle != 0 && bytes == 1000 && *(unsigned char *)block == 7);
    ++*(size_t *)context;
}

static void compacting(void) {
    static uint64_t handles[2000];
    hw_compacting *heap = hw_compacting_new(hw_backing_limited(hw_backing_anonymous(NULL), 3 << 20,
                                                               &error), 0, &error);
    CHECK(heap != NULL);
    for (size_t n = 0; n < 2000; n++) {
        handles[n] = hw_compacting_alloc(heap, 1000, &error);
        CHECK(handles[n] != 0 && error.status == HW_OK);
        size_t bytes = 0;
        addresses[n] = hw_compacting_pin(heap, handles[n], &bytes, &error);
        CHECK(addresses[n] != NULL && bytes == 1000 && aligned(addresses[n], 16));
        CHECK(((char *)addresses[n])[999] == 0);
        memset(addresses[n], 7, 1000);
        CHECK(hw_compacting_free(heap, handles[n], &error) == HW_IN_USE);
        CHECK(hw_compacting_unpin(heap, handles[n], &error) == HW_OK);
    }
    CHECK(hw_compacting_unpin(heap, handles[0], &error) == HW_IN_USE);
    for (size_t n = 0; n < 2000; n++)
        if (n % 4 != 0) CHECK(hw_compacting_free(heap, handles[n], &error) == HW_OK);
    CHECK(hw_compacting_free(heap, handles[1], &error) == HW_STALE);
    CHECK(hw_compacting_free(heap, 0, NULL) == HW_STALE);
    CHECK(hw_compacting_pin(heap, handles[1], NULL, &error) == NULL && error.status == HW_STALE);
    CHECK(hw_compacting_statistics(heap, &seen) == HW_OK && seen.live_count == 500);
    /* More than that is free, in no piece. */
    CHECK(seen.free_bytes > 1200000 && seen.largest_free_bytes < 1200000);
    CHECK(hw_compacting_alloc(heap, 1200000, &error) == 0);
    CHECK(error.status == HW_OVER_LIMIT || error.status == HW_FULL);
    size_t told = 0, steps = 0;
    hw_compaction done = {0};
    while (!done.finished) {
        CHECK(hw_compacting_step(heap, 100000, moved, &told, &done) == HW_OK);
        CHECK(++steps < 1000000);
    }
    CHECK(told >= 400);
    uint64_t large = hw_compacting_alloc(heap, 1200000, &error);
    CHECK(large != 0);
    CHECK(hw_compacting_resize(heap, large, 2000000, &error) != HW_OK);
    CHECK(hw_compacting_resize(heap, large, 100, &error) == HW_OK);
    CHECK(hw_compacting_free(heap, large, NULL) == HW_OK);
    CHECK(hw_compacting_compact(heap, &done) == HW_OK && done.finished);
    CHECK(hw_compacting_compact(heap, NULL) == HW_OK);
    size_t visited = 0;
    CHECK(hw_compacting_each(heap, visit_moved, &visited) == HW_OK && visited == 500);
    CHECK(hw_compacting_each(heap, NULL, NULL) == HW_INVALID);
    CHECK(hw_compacting_step(NULL, 1, NULL, NULL, NULL) == HW_INVALID);
    hw_compacting_delete(heap);
    hw_compacting_delete(NULL);
    static char buffer[100000];
    heap = hw_compacting_new(hw_backing_buffer(buffer, sizeof buffer, NULL), 0, &error);
    CHECK(heap != NULL && hw_compacting_alloc(heap, 90000, &error) != 0);
    CHECK(hw_compacting_alloc(heap, 20000, &error) == 0 && error.status == HW_FULL);
    hw_compacting_delete(heap);
}

static void buddy(void) {
    hw_buddy *heap = hw_buddy_new(NULL, 1 << 20, 64, true, &error);
    CHECK(heap != NULL);
    char *block = hw_buddy_alloc(heap, 5000, 4096, &error);
    CHECK(block != NULL && aligned(block, 4096));
    memset(block, 1, 5000);
    CHECK(hw_buddy_free(heap, block + 64, 5000, 4096, &error) == HW_NOT_BLOCK_START);
    CHECK(hw_buddy_free(heap, block, 5000, 4096, &error) == HW_OK);
    CHECK(hw_buddy_free(heap, block, 5000, 4096, &error) == HW_ALREADY_FREE);
    CHECK(hw_buddy_free(heap, (void *)&error, 8, 0, &error) == HW_NOT_OWNED);
    CHECK(hw_buddy_alloc(heap, 2 << 20, 0, &error) == NULL && error.status == HW_UNFIT);
    CHECK(hw_buddy_statistics(heap, &seen) == HW_OK && seen.largest_free_bytes == 1 << 20);
    hw_buddy_delete(heap);
    CHECK(hw_buddy_new(NULL, 1 << 20, 100, true, &error) == NULL && error.status == HW_UNFIT);
    hw_buddy_delete(NULL);

    hw_offsets *offsets = hw_offsets_new((uint64_t)1 << 34, 65536, false, &error);
    CHECK(offsets != NULL);
    uint64_t first, second;
    CHECK(hw_offsets_alloc(offsets, 1000000, 0, &first, &error) == HW_OK);
    CHECK(hw_offsets_alloc(offsets, 3, 1 << 20, &second, &error) == HW_OK && first != second);
    CHECK(second % (1 << 20) == 0);
    CHECK(hw_offsets_alloc(offsets, 1, 0, NULL, &error) == HW_INVALID);
    CHECK(hw_offsets_alloc(offsets, UINT64_MAX, 0, &first, &error) == HW_UNFIT);
    CHECK(hw_offsets_free(offsets, first + 65536, 1, 0, &error) == HW_NOT_BLOCK_START);
    CHECK(hw_offsets_free(offsets, first, 1000000, 0, &error) == HW_OK);
    CHECK(hw_offsets_free(offsets, first, 1000000, 0, &error) == HW_ALREADY_FREE);
    CHECK(hw_offsets_statistics(offsets, &seen) == HW_OK && seen.live_bytes == 1 << 20);
    hw_offsets_delete(offsets);
    hw_offsets_delete(NULL);
    CHECK(hw_offsets_new(1 << 20, 3, false, &error) == NULL && error.status == HW_UNFIT);
}

static void handles(void) {
    hw_handles *all = hw_handles_new(NULL, 2, &error);
    int one = 1, two = 2;
    CHECK(all != NULL);
    uint64_t first = hw_handles_insert(all, &one, &error);
    uint64_t second = hw_handles_insert(all, &two, &error);
    CHECK(first != 0 && second != 0 && first != second);
    CHECK(hw_handles_insert(all, &two, &error) == 0 && error.status != HW_OK);
    CHECK(hw_handles_insert(all, NULL, &error) == 0 && error.status == HW_INVALID);
    CHECK(hw_handles_get(all, first) == &one && hw_handles_get(all, 0) == NULL);
    CHECK(hw_handles_remove(all, first) == &one && hw_handles_remove(all, first) == NULL);
    uint64_t third = hw_handles_insert(all, &two, &error);
    CHECK(third != first && hw_handles_get(all, first) == NULL);
    CHECK(hw_handles_get(all, third) == &two && hw_handles_get(NULL, third) == NULL);
    CHECK(hw_handles_statistics(all, &seen) == HW_OK && seen.committed_bytes > 0);
    hw_handles_delete(all);
    hw_handles_delete(NULL);
}

static void dense(void) {
    hw_backing *ready = hw_backing_prefaulted(hw_backing_anonymous(NULL), &error);
    hw_dense *all = hw_dense_new(ready, 3, &error);
    int values[3];
    uint64_t names[3];
    size_t count = 7;
    CHECK(all != NULL && hw_dense_values(all, &count) == NULL && count == 0);
    for (int n = 0; n < 3; n++) {
        names[n] = hw_dense_insert(all, &values[n], &error);
        CHECK(names[n] != 0 && hw_dense_get(all, names[n]) == &values[n]);
    }
    CHECK(hw_dense_insert(all, &values[0], &error) == 0 && error.status != HW_OK);
    CHECK(hw_dense_remove(all, names[0]) == &values[0] && hw_dense_remove(all, names[0]) == NULL);
    void *const *seen_values = hw_dense_values(all, &count);
    CHECK(count == 2 && seen_values[0] == &values[2] && seen_values[1] == &values[1]);
    CHECK(hw_dense_insert(all, NULL, &error) == 0 && error.status == HW_INVALID);
    CHECK(hw_dense_get(all, names[0]) == NULL && hw_dense_get(all, 0) == NULL);
    CHECK(hw_dense_values(NULL, &count) == NULL && count == 0);
    CHECK(hw_dense_statistics(all, &seen) == HW_OK && seen.live_count == 2);
    hw_dense_delete(all);
    hw_dense_delete(NULL);
}

/* Without a page ahead: what is resident is what was touched, and the first page's header. */
static void lazy(void) {
    hw_linear *arena = hw_linear_new(hw_backing_lazy(hw_backing_anonymous(NULL), &error), &error);
    CHECK(arena != NULL);
    for (int n = 0; n < 1000; n++) {
        char *block = hw_linear_alloc(arena, 1024, 8, &error);
        CHECK(block != NULL);
        memset(block, n, 1024);
    }
    CHECK(hw_linear_statistics(arena, &seen) == HW_OK);
    CHECK(seen.resident_bytes <= 1000 * 1024 + 2 * 65536);
    hw_linear_delete(arena);
}

/* What an arena gives back when it is trimmed is what it gets when it grows again. */
static void kept(void) {
    CHECK(hw_backing_kept(NULL, 1, &error) == NULL && error.status == HW_INVALID);
    CHECK(hw_backing_prefaulted(NULL, &error) == NULL && error.status == HW_INVALID);
    CHECK(hw_backing_lazy(NULL, &error) == NULL && error.status == HW_INVALID);
    hw_backing *limited = hw_backing_limited(hw_backing_anonymous(NULL), 64 << 20, &error);
    hw_linear *arena = hw_linear_new(hw_backing_kept(limited, 16 << 20, &error), &error);
    CHECK(arena != NULL);
    for (int round = 0; round < 3; round++) {
        for (int n = 0; n < 100; n++) {
            char *block = hw_linear_alloc(arena, 40000, 0, &error);
            CHECK(block != NULL);
            memset(block, round, 40000);
        }
        CHECK(hw_linear_reset(arena, 0) == HW_OK);
    }
    hw_linear_delete(arena);
}

static void file_heap(void) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/heapwright-c-heap-%d", (int)getpid());
    unlink(path);
    hw_file_heap *heap = hw_file_heap_create(path, 42, 1 << 20, 64, true, &error);
    CHECK(heap != NULL);
    char *block = hw_file_heap_alloc(heap, 1000, 0, &error);
    CHECK(block != NULL);
    strcpy(block, "kept");
    CHECK(hw_file_heap_alloc(heap, 8, 8192, &error) == NULL && error.status == HW_UNFIT);
    uint64_t offset = hw_file_heap_offset(heap, block);
    CHECK(offset != 0 && hw_file_heap_offset(heap, &error) == 0);
    CHECK(hw_file_heap_set_root(heap, 0, offset) == HW_OK);
    CHECK(hw_file_heap_set_root(heap, 8, offset) == HW_INVALID);
    CHECK(hw_file_heap_sync(heap, &error) == HW_OK && hw_file_heap_check(heap, &error) == HW_OK);
    CHECK(hw_file_heap_open(path, 42, &error) == NULL && error.status == HW_IN_USE);
    CHECK(hw_file_heap_close(heap, &error) == HW_OK);
    CHECK(hw_file_heap_open(path, 43, &error) == NULL && error.status == HW_FOREIGN);
    CHECK(hw_file_heap_create(path, 42, 1 << 20, 64, true, &error) == NULL);
    CHECK(error.status == HW_NOT_EMPTY);
    heap = hw_file_heap_open(path, 42, &error);
    CHECK(heap != NULL && hw_file_heap_root(heap, 0) == offset && hw_file_heap_root(heap, 9) == 0);
    block = hw_file_heap_at(heap, offset);
    CHECK(block != NULL && strcmp(block, "kept") == 0 && hw_file_heap_at(heap, 1) == NULL);
    CHECK(hw_file_heap_free(heap, block, 1000, 0, &error) == HW_OK);
    CHECK(hw_file_heap_free(heap, block, 1000, 0, &error) == HW_ALREADY_FREE);
    CHECK(hw_file_heap_statistics(heap, &seen) == HW_OK && seen.live_bytes == 0);
    hw_file_heap_delete(heap);
    CHECK(truncate(path, 5000) == 0);
    CHECK(hw_file_heap_open(path, 42, &error) == NULL && error.status == HW_TRUNCATED);
    CHECK(error.available_bytes == 5000 && error.requested_bytes > 1 << 20);
    CHECK(hw_file_heap_salvage(path, 42, &error) == NULL && error.status == HW_TRUNCATED);
    CHECK(hw_file_heap_open(NULL, 42, &error) == NULL && error.status == HW_INVALID);
    CHECK(hw_file_heap_close(NULL, &error) == HW_INVALID);
    hw_file_heap_delete(NULL);
    unlink(path);
}

static void numa(void) {
    hw_nodes nodes;
    CHECK(hw_nodes_read(&nodes) == HW_OK && nodes.with_memory != 0);
    CHECK(hw_nodes_read(NULL) == HW_INVALID);
    uint32_t node = (uint32_t)__builtin_ctzll(nodes.with_memory);
    CHECK(hw_node_distance(node, node) == 10 && hw_node_distance(node, 64) == 255);
    CHECK(hw_node_current() < 1024);
    size_t page = hw_page_bytes();
    char *pages = hw_pages_local(3 * page + 1, &error);
    CHECK(pages != NULL && aligned(pages, page) && pages[3 * page] == 0);
    memset(pages, 1, 4 * page);
    hw_pages_free(pages, 3 * page + 1);
    hw_pages_free(NULL, 1);
    pages = hw_pages_on_node(100000, node, &error);
    if (pages != NULL) {
        hw_placement where;
        CHECK(hw_placement_read(pages, 100000, &where, &error) == HW_OK);
        CHECK(where.pages_on[node] == (100000 + page - 1) / page && where.absent_pages == 0);
        CHECK(hw_migrate(pages, page, node, &where, &error) == HW_OK);
        CHECK(where.pages_on[node] == 1);
        CHECK(hw_placement_read(pages + 1, 1, &where, &error) == HW_INVALID);
        CHECK(hw_bind_range(pages, page, HW_NODE_PREFER, (uint64_t)1 << node, &error) == HW_OK);
        CHECK(hw_bind_range(pages, page, 9, 1, &error) == HW_INVALID);
        hw_pages_free(pages, 100000);
        CHECK(hw_pages_on_node((size_t)1 << 50, node, &error) == NULL);
        CHECK(error.status == HW_NO_MEMORY && error.available_bytes < (size_t)1 << 50);
        hw_backing *bound = hw_backing_on_nodes(hw_backing_anonymous(NULL), HW_NODE_BIND,
                                                (uint64_t)1 << node, &error);
        hw_linear *arena = hw_linear_new(bound, &error);
        CHECK(arena != NULL && hw_linear_alloc(arena, 100, 0, &error) != NULL);
        hw_linear_delete(arena);
    } else {
        CHECK(error.status == HW_KERNEL);
    }
    CHECK(hw_pages_on_node(1, 64, &error) == NULL && error.status == HW_KERNEL);
}

struct walked {
    size_t count, bytes, limit;
    hw_heap heap;
    void *freed;
};

static bool visit(void *context, const hw_live_block *block) {
    struct walked *walked = context;
    walked->count++;
    walked->bytes += block->usable_bytes;
    if (walked->heap.place != NULL && block->heap.id != walked->heap.id) {
        return false;
    }
    if (block->start == walked->freed) {
        hw_heap_free(block->start);
    }
    return walked->count < walked->limit;
}

static void *work(void *argument) {
    hw_heap heap = *(hw_heap *)argument;
    void *kept[100];
    for (int round = 0; round < 50; round++) {
        for (size_t i = 0; i < 100; i++) {
            kept[i] = hw_heap_alloc(heap, 1 + i * 17, 0, NULL);
            if (kept[i] == NULL) {
                return NULL;
            }
            memset(kept[i], (int)i, 1 + i * 17);
        }
        for (size_t i = 0; i < 100; i++) {
            unsigned char *bytes = kept[i];
            if (bytes[0] != i || bytes[i * 17] != i) {
                return NULL;
            }
            hw_heap_free(bytes);
        }
    }
    return argument;
}

static void heaps(void) {
    hw_heap_options options = {.limit_bytes = 1 << 20, .name = "cache"};
    hw_heap heap = hw_heap_new(&options, &error);
    CHECK(heap.place != NULL && error.status == HW_OK);
    char name[33];
    CHECK(hw_heap_name(heap, name) == HW_OK && strcmp(name, "cache") == 0);
    CHECK(hw_heap_name(heap, NULL) == HW_INVALID);

    char *block = hw_heap_alloc(heap, 100, 64, &error);
    CHECK(block != NULL && aligned(block, 64) && hw_heap_usable_bytes(block) >= 100);
    CHECK(hw_heap_of(block).id == heap.id);
    memset(block, 7, 100);
    block = hw_heap_realloc(heap, block, 50000, 64, &error);
    CHECK(block != NULL && aligned(block, 64) && block[99] == 7);
    CHECK(hw_heap_of(block).id == heap.id);
    CHECK(hw_heap_realloc(heap, block, 2 << 20, 0, &error) == NULL);
    CHECK(error.status == HW_OVER_LIMIT && error.limit_bytes == 1 << 20 && block[99] == 7);
    CHECK(hw_heap_alloc(heap, 2 << 20, 0, &error) == NULL && error.status == HW_OVER_LIMIT);
    CHECK(hw_heap_alloc(heap, 10, 24, &error) == NULL && error.status == HW_INVALID);
    char *zeroed = hw_heap_alloc_zeroed(heap, 300, 0, &error);
    for (int i = 0; i < 300; i++) {
        CHECK(zeroed[i] == 0);
    }
    char *other = hw_heap_realloc(heap, NULL, 10, 0, &error);
    CHECK(other != NULL && hw_heap_statistics(heap, &seen) == HW_OK);
    CHECK(seen.live_count == 3 && seen.failure_count == 2 && seen.requested_bytes == HW_UNKNOWN);
    CHECK(seen.live_bytes >= 50310 && seen.live_bytes <= seen.committed_bytes);
    CHECK(hw_heap_statistics(heap, NULL) == HW_INVALID);

    struct walked walked = {.limit = 1000, .heap = heap, .freed = zeroed};
    CHECK(hw_heap_walk(heap, visit, &walked, &error) == HW_OK && walked.count == 3);
    CHECK(walked.bytes == seen.live_bytes);
    walked = (struct walked){.limit = 1};
    CHECK(hw_heap_walk(HW_NO_HEAP, visit, &walked, &error) == HW_OK && walked.count == 1);
    CHECK(hw_heap_walk(heap, NULL, NULL, &error) == HW_INVALID);

    hw_heap second = hw_heap_new(NULL, &error);
    char *elsewhere = hw_heap_alloc(second, 1000, 0, &error);
    CHECK(hw_heap_realloc(heap, elsewhere, 5000, 0, &error) == NULL);
    CHECK(error.status == HW_NOT_OWNED);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&threads[i], NULL, work, &second) == 0);
    }
    for (int i = 0; i < 3; i++) {
        void *result = NULL;
        pthread_join(threads[i], &result);
        CHECK(result == &second);
    }
    CHECK(hw_heap_statistics(second, &seen) == HW_OK && seen.live_count == 1);
    hw_heap_free(elsewhere);
    hw_heap_free(NULL);
    CHECK(hw_heap_trim(second) == HW_OK);
    CHECK(hw_heap_statistics(second, &seen) == HW_OK && seen.committed_bytes == 0);
    CHECK(hw_heap_set_limit(second, 16) == HW_OK);
    CHECK(hw_heap_alloc(second, 17, 0, &error) == NULL && error.limit_bytes == 16);
    CHECK(hw_heap_set_limit(second, 0) == HW_OK);
    CHECK(hw_heap_alloc(second, 17, 0, &error) != NULL);

    CHECK(hw_heap_delete(heap) == HW_OK && hw_heap_delete(heap) == HW_STALE);
    hw_heap third = hw_heap_new(NULL, &error);
    CHECK(hw_heap_alloc(heap, 1, 0, &error) == NULL && error.status == HW_STALE);
    CHECK(hw_heap_set_limit(heap, 1) == HW_STALE && hw_heap_trim(heap) == HW_STALE);
    CHECK(hw_heap_walk(heap, visit, &walked, &error) == HW_STALE);
    CHECK(hw_heap_delete(second) == HW_OK && hw_heap_delete(third) == HW_OK);
    CHECK(hw_heap_delete(HW_NO_HEAP) == HW_OK);
    CHECK(hw_heap_alloc(HW_NO_HEAP, 1, 0, &error) == NULL && error.status == HW_INVALID);

    size_t value = 1;
    CHECK(hw_option("soft_limit", &value) == HW_OK && value == SIZE_MAX);
    CHECK(hw_set_option("soft_limit", "64M") == HW_OK);
    CHECK(hw_option("soft_limit", &value) == HW_OK && value == 64 << 20);
    CHECK(hw_set_option("soft_limit", "none") == HW_OK);
    CHECK(hw_set_option("soft_limit", "much") == HW_INVALID);
    CHECK(hw_set_option("no_such", "1") == HW_INVALID && hw_set_option(NULL, NULL) == HW_INVALID);
    CHECK(hw_option("no_such", &value) == HW_INVALID && hw_option("purger", NULL) == HW_INVALID);
}

int main(void) {
    CHECK(hw_version()[0] != 0);
    CHECK(strcmp(hw_status_text(HW_OK), "no error") == 0);
    CHECK(strcmp(hw_status_text(HW_ELSEWHERE), "unknown status") != 0);
    CHECK(strcmp(hw_status_text(99), "unknown status") == 0);
    CHECK(strcmp(hw_status_text(-1), "unknown status") == 0);
    backings();
    linear();
    stack();
    pool();
    slab();
    compacting();
    buddy();
    handles();
    dense();
    kept();
    lazy();
    file_heap();
    numa();
    heaps();
    puts("conforms");
    return 0;
}
