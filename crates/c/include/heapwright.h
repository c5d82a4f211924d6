/* heapwright.h: heaps, region allocators, handles and NUMA memory for C.
 *
 * Link with -lheapwright (libheapwright.so or libheapwright.a).
 *
 * Ownership. Every hw_X_new or hw_X_create returns an object that the caller deletes with
 * hw_X_delete. A backing handed to another constructor belongs to what was made from then on, and
 * is deleted with it; if the constructor fails, the backing is still the caller's. NULL for a
 * backing means anonymous memory of the kernel. Deleting an allocator ends all its blocks; a
 * backing must not be deleted by hand after it was handed over. Deleting NULL does nothing. The
 * few hundred bytes of each object come from the program's malloc.
 *
 * Errors. A function that makes something returns NULL (or the handle 0) on failure, a function
 * that does something a status; none changes anything then. The last argument, where there is one,
 * is NULL or a place for the numbers, written at each call, also at success. NULL for an object, a
 * block or a result, an alignment that is no power of two and an unknown number are HW_INVALID.
 *
 * Threads. An object and its blocks may be used by one thread at a time, and by another one later.
 * Different objects are independent, also if each has anonymous memory. Functions of the machine
 * (hw_node..., hw_pages..., hw_placement..., hw_migrate, hw_bind_range) may be called anywhere.
 *
 * Alignment. 0 means 16. Bytes are bytes everywhere.
 *
 * Nothing here throws, sets errno, or uses a signal.
 */
#ifndef HEAPWRIGHT_H
#define HEAPWRIGHT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- errors and figures */

/* The numbers stay as they are; more may come. */
typedef enum hw_status {
    HW_OK = 0,
    HW_INVALID = 1,         /* an argument that cannot be */
    HW_NO_MEMORY = 2,       /* no memory, addresses, mappings or disk: requested, available */
    HW_FULL = 3,            /* a bounded allocator: requested, available (largest), limit (all) */
    HW_UNFIT = 4,           /* never possible here: requested, limit (largest) */
    HW_TOO_LARGE = 5,       /* larger than any object may be: requested */
    HW_OVER_LIMIT = 6,      /* a quota: requested, available, limit */
    HW_UNSUPPORTED = 7,     /* not possible with this backing */
    HW_KERNEL = 8,          /* the kernel refused: system_error */
    HW_NOT_OWNED = 9,       /* not this allocator's: address */
    HW_NOT_BLOCK_START = 10, /* inside a block: address */
    HW_ALREADY_FREE = 11,   /* address */
    HW_OUT_OF_ORDER = 12,   /* a newer block of the stack is live: address */
    HW_STALE = 13,          /* a mark or handle of an earlier life */
    HW_TRUNCATED = 14,      /* somebody cut the file: requested (was), available (is) */
    HW_IN_USE = 15,         /* the file is open as memory elsewhere, or the block is pinned */
    HW_NOT_EMPTY = 16,      /* the file has something in it: available (length) */
    HW_FOREIGN = 17,        /* not a heap's file, another version, byte order or application */
    HW_TORN = 18,           /* a checksum does not fit */
    HW_NOT_CLOSED = 19,     /* the heap was not closed: hw_file_heap_salvage */
    HW_ELSEWHERE = 20       /* pages came from another node */
} hw_status;

typedef struct hw_error {
    int32_t status;         /* a hw_status */
    int32_t system_error;   /* as errno, or 0 */
    uint64_t requested_bytes;
    uint64_t available_bytes;
    uint64_t limit_bytes;
    uint64_t address;       /* or an offset, with hw_offsets */
} hw_error;

/* A few words about a status; a constant. */
const char *hw_status_text(int32_t status);

/* "0.1.0"; a constant. */
const char *hw_version(void);

#define HW_UNKNOWN UINT64_MAX

/* What an allocator holds at one moment; HW_UNKNOWN where it does not count that. */
typedef struct hw_statistics {
    uint64_t live_count;        /* blocks not freed */
    uint64_t live_bytes;        /* usable bytes of them */
    uint64_t peak_live_bytes;   /* the most there were */
    uint64_t requested_bytes;   /* what was asked for, of blocks not freed */
    uint64_t reserved_bytes;    /* addresses taken */
    uint64_t committed_bytes;   /* memory that may be touched */
    uint64_t resident_bytes;    /* memory that is there, as the kernel says */
    uint64_t free_bytes;        /* committed, and no block uses it */
    uint64_t largest_free_bytes; /* the largest block to be had without more memory */
    uint64_t failure_count;     /* requests refused */
} hw_statistics;

/* ---------------------------------------------------------------- backings */

/* Where memory comes from. */
typedef struct hw_backing hw_backing;

/* Memory of the kernel: addresses first, pages when they are touched. */
hw_backing *hw_backing_anonymous(hw_error *error);

typedef enum hw_huge {
    HW_HUGE_ADVISED = 0,    /* ordinary memory, aligned; the kernel gives huge pages as it can */
    HW_HUGE_2M = 1,         /* 2 MiB pages of the pool */
    HW_HUGE_1G = 2          /* 1 GiB pages of the pool */
} hw_huge;

/* Huge pages. Unless `strict`, what cannot be had falls back to the next smaller kind. */
hw_backing *hw_backing_huge(int32_t wish, bool strict, hw_error *error);

/* Memory in the new or empty file `path`. Disk blocks are taken before memory is used, so a full
 * disk is HW_NO_MEMORY. If somebody cuts the file, touching it is SIGBUS. */
hw_backing *hw_backing_file(const char *path, hw_error *error);

/* Memory in a file without a name in `directory`. */
hw_backing *hw_backing_temporary(const char *directory, hw_error *error);

/* The new or empty shared memory `name` of the machine (a file of /dev/shm), which stays until it
 * is unlinked. */
hw_backing *hw_backing_shared(const char *name, hw_error *error);

/* The caller's `bytes` at `start`, used by nobody else until the backing is deleted. */
hw_backing *hw_backing_buffer(void *start, size_t bytes, hw_error *error);

typedef enum hw_policy {
    HW_NODE_LOCAL = 0,      /* where the thread runs that first touches a page; no nodes given */
    HW_NODE_BIND = 1,       /* these nodes only: a page they lack ends the process */
    HW_NODE_PREFER = 2,     /* this node first, then any */
    HW_NODE_INTERLEAVE = 3  /* these nodes in turn */
} hw_policy;

/* `inner`, with pages of these NUMA nodes: bit n is node n. */
hw_backing *hw_backing_on_nodes(hw_backing *inner, int32_t policy, uint64_t nodes,
                                hw_error *error);

/* `inner`, with inaccessible memory before and behind each piece: a power of two of OS pages; 0
 * for one. */
hw_backing *hw_backing_guarded(hw_backing *inner, size_t guard_bytes, hw_error *error);

/* `inner`, at most `limit_bytes` of it committed at a time. */
hw_backing *hw_backing_limited(hw_backing *inner, size_t limit_bytes, hw_error *error);

/* `first` until it has no more, then `second`: two different ones. */
hw_backing *hw_backing_chained(hw_backing *first, hw_backing *second, hw_error *error);

/* `inner`; pieces that come back stay as they are for the next ones, `bytes_max` of them at most:
 * what grows, ends and begins again meets warm pages. They go with the backing. */
hw_backing *hw_backing_kept(hw_backing *inner, size_t bytes_max, hw_error *error);

/* `inner`, whose pages are there when memory is taken: no page fault later, and all of it is
 * resident. */
hw_backing *hw_backing_prefaulted(hw_backing *inner, hw_error *error);

/* `inner`, whose pages come in only as they are touched. Otherwise what grows has up to a quarter of
 * what it uses ready beside it, 2 MiB at most, and all but arenas ask for huge pages from 4 MiB on. */
hw_backing *hw_backing_lazy(hw_backing *inner, hw_error *error);

/* Only for a backing that nothing was made of. */
void hw_backing_delete(hw_backing *backing);

/* ---------------------------------------------------------------- linear arena */

/* Blocks that die together. Memory grows as wanted and is kept at a reset. */
typedef struct hw_linear hw_linear;

/* A point of an arena's life; to be copied, not looked into. */
typedef struct hw_linear_mark { uintptr_t opaque[8]; } hw_linear_mark;

hw_linear *hw_linear_new(hw_backing *backing, hw_error *error);
void hw_linear_delete(hw_linear *linear);

/* A block, uninitialised. Some ten instructions. */
void *hw_linear_alloc(hw_linear *linear, size_t bytes, size_t align_bytes, hw_error *error);

/* A block of zeroes. */
void *hw_linear_alloc_zeroed(hw_linear *linear, size_t bytes, size_t align_bytes,
                             hw_error *error);

/* Makes a live block of `old_bytes`, aligned as when it was made, longer or shorter: in place if
 * it is the newest, else copied. After a success only the result is used. */
void *hw_linear_resize(hw_linear *linear, void *block, size_t old_bytes, size_t new_bytes,
                       size_t align_bytes, hw_error *error);

/* A copy of `text` with its end. */
char *hw_linear_copy_text(hw_linear *linear, const char *text, hw_error *error);

/* Writes the point where the arena is. */
int32_t hw_linear_get_mark(const hw_linear *linear, hw_linear_mark *mark);

/* Ends all blocks made since `mark`, which hw_linear_get_mark wrote for this arena, and that
 * nobody uses. HW_STALE after a reset, or a rewind to before it. */
int32_t hw_linear_rewind(hw_linear *linear, const hw_linear_mark *mark, hw_error *error);

/* Ends all blocks, and keeps at most `keep_bytes` of memory: SIZE_MAX keeps all of it warm. */
int32_t hw_linear_reset(hw_linear *linear, size_t keep_bytes);

int32_t hw_linear_statistics(const hw_linear *linear, hw_statistics *out);

/* ---------------------------------------------------------------- stack */

/* Blocks that end in the opposite order of their making, from both ends of one range. */
typedef struct hw_stack hw_stack;
typedef struct hw_stack_mark { uintptr_t opaque[2]; } hw_stack_mark;

/* A stack of `bytes`, below 4 GiB. A block freed before a newer one is HW_OUT_OF_ORDER, or with
 * `defer` comes back with the newer ones. */
hw_stack *hw_stack_new(hw_backing *backing, size_t bytes, bool defer, hw_error *error);
void hw_stack_delete(hw_stack *stack);

/* A block at the low or the high end; 16 bytes more than asked for. */
void *hw_stack_alloc(hw_stack *stack, bool high, size_t bytes, size_t align_bytes,
                     hw_error *error);

/* `block` is of this stack; if it is not live any more, nothing else may lie where it was. */
int32_t hw_stack_free(hw_stack *stack, void *block, hw_error *error);

int32_t hw_stack_get_mark(const hw_stack *stack, hw_stack_mark *mark);

/* Ends all blocks of both ends made since `mark`, of this stack, that it has not been behind. */
int32_t hw_stack_rewind(hw_stack *stack, const hw_stack_mark *mark, hw_error *error);

int32_t hw_stack_statistics(const hw_stack *stack, hw_statistics *out);

/* ---------------------------------------------------------------- pool */

/* Blocks of one size. */
typedef struct hw_pool hw_pool;

/* A pool that grows as wanted if `count` is 0; otherwise of `count` blocks, all taken now. */
hw_pool *hw_pool_new(hw_backing *backing, size_t block_bytes, size_t align_bytes, size_t count,
                     hw_error *error);
void hw_pool_delete(hw_pool *pool);
void *hw_pool_alloc(hw_pool *pool, hw_error *error);

/* `block` is a live one of this pool. NULL is nothing. */
void hw_pool_free(hw_pool *pool, void *block);

/* As hw_pool_free, and looks first whether it is one: it may be anything. O(free blocks). */
int32_t hw_pool_free_checked(hw_pool *pool, void *block, hw_error *error);

int32_t hw_pool_statistics(const hw_pool *pool, hw_statistics *out);

/* ---------------------------------------------------------------- slab */

/* Blocks of any size, in classes at most 12.5 % apart. */
typedef struct hw_slab hw_slab;

/* Of at most `bytes_max`, whose addresses are taken now. With `whole_lines` no two blocks share a
 * cache line. */
hw_slab *hw_slab_new(hw_backing *backing, size_t bytes_max, bool whole_lines, hw_error *error);
void hw_slab_delete(hw_slab *slab);

/* A block, uninitialised. Alignments up to 4096. */
void *hw_slab_alloc(hw_slab *slab, size_t bytes, size_t align_bytes, hw_error *error);

/* Makes a live block longer or shorter, in place or elsewhere. After a success only the result is
 * used. */
void *hw_slab_resize(hw_slab *slab, void *block, size_t old_bytes, size_t new_bytes,
                     size_t align_bytes, hw_error *error);

/* `block` is a live one of this slab, with the numbers it was asked for with. NULL is nothing. */
void hw_slab_free(hw_slab *slab, void *block, size_t bytes, size_t align_bytes);

/* Gives all memory back that no block is in the way of. */
void hw_slab_trim(hw_slab *slab);

int32_t hw_slab_statistics(const hw_slab *slab, hw_statistics *out);

/* ---------------------------------------------------------------- compacting heap */

/* Blocks of any size under handles, which may be moved while they are not pinned: what dead blocks
 * leave is closed up and given back, a little at a time. */
typedef struct hw_compacting hw_compacting;

/* Of at most `bytes_max`, bookkeeping included; 0 for as many as the backing has in one piece. */
hw_compacting *hw_compacting_new(hw_backing *backing, size_t bytes_max, hw_error *error);
void hw_compacting_delete(hw_compacting *heap);

/* The handle of a block of zeroes, aligned to 16; 0 on failure. HW_FULL tells the largest piece:
 * if it is less than what is free, hw_compacting_compact helps. */
uint64_t hw_compacting_alloc(hw_compacting *heap, size_t bytes, hw_error *error);

/* HW_STALE if the handle names nothing, HW_IN_USE if it is pinned; as for the next. */
int32_t hw_compacting_free(hw_compacting *heap, uint64_t handle, hw_error *error);

/* Keeps the first bytes; new ones are zero. */
int32_t hw_compacting_resize(hw_compacting *heap, uint64_t handle, size_t bytes, hw_error *error);

/* Where the block is, and how long if `bytes` is not NULL. It stays there until as many
 * hw_compacting_unpin; only in between its bytes may be read and written. NULL for a stale handle,
 * and for one with 65,535 pins (HW_IN_USE). */
void *hw_compacting_pin(hw_compacting *heap, uint64_t handle, size_t *bytes, hw_error *error);
int32_t hw_compacting_unpin(hw_compacting *heap, uint64_t handle, hw_error *error);

/* Calls `visit` with each block, pinned, in the order of addresses. Nothing is moved meanwhile. */
typedef void (*hw_compacting_visit)(void *context, uint64_t handle, void *block, size_t bytes);
int32_t hw_compacting_each(hw_compacting *heap, hw_compacting_visit visit, void *context);

typedef struct hw_compaction {
    uint64_t moved_count;
    uint64_t moved_bytes;
    uint64_t released_bytes;    /* given back to the backing */
    bool finished;              /* nothing is left to do now */
} hw_compaction;

/* Told of a block that is elsewhere now. Its bytes may be touched under a pin only, also here.
 * It may use the heap, and not leave by longjmp or an exception. */
typedef void (*hw_moved)(void *context, uint64_t handle, void *from, void *to, size_t bytes);

/* Moves together all that may be moved. `out` may be NULL, here and below. */
int32_t hw_compacting_compact(hw_compacting *heap, hw_compaction *out);

/* The same for about so many nanoseconds; the next call goes on. A pass begins when one byte in 32
 * died since the last. `on_move` may be NULL. */
int32_t hw_compacting_step(hw_compacting *heap, uint64_t nanoseconds, hw_moved on_move,
                           void *context, hw_compaction *out);

int32_t hw_compacting_statistics(const hw_compacting *heap, hw_statistics *out);

/* ---------------------------------------------------------------- buddy heap */

/* A fixed range of memory in blocks of any size. */
typedef struct hw_buddy hw_buddy;

/* `leaf_bytes` is the smallest block: a power of two, 16 to 4096. With `trim` blocks are whole
 * leaves, else powers of two. */
hw_buddy *hw_buddy_new(hw_backing *backing, size_t bytes, size_t leaf_bytes, bool trim,
                       hw_error *error);
void hw_buddy_delete(hw_buddy *heap);

/* O(log n). Alignments up to 4096. */
void *hw_buddy_alloc(hw_buddy *heap, size_t bytes, size_t align_bytes, hw_error *error);

/* With the numbers it was asked for with. Any other address is an error. */
int32_t hw_buddy_free(hw_buddy *heap, void *block, size_t bytes, size_t align_bytes,
                      hw_error *error);

int32_t hw_buddy_statistics(const hw_buddy *heap, hw_statistics *out);

/* ---------------------------------------------------------------- buddy over offsets */

/* Ranges of memory that the CPU does not see: a GPU's heap, a file, another process's memory. */
typedef struct hw_offsets hw_offsets;

hw_offsets *hw_offsets_new(uint64_t bytes, uint64_t leaf_bytes, bool trim, hw_error *error);
void hw_offsets_delete(hw_offsets *heap);

/* Writes the offset of a range, a multiple of `align_bytes` (0 is 1). */
int32_t hw_offsets_alloc(hw_offsets *heap, uint64_t bytes, uint64_t align_bytes, uint64_t *offset,
                         hw_error *error);

/* With the numbers it was asked for with. Other offsets are errors; other lengths are not
 * noticed. */
int32_t hw_offsets_free(hw_offsets *heap, uint64_t offset, uint64_t bytes, uint64_t align_bytes,
                        hw_error *error);

int32_t hw_offsets_statistics(const hw_offsets *heap, hw_statistics *out);

/* ---------------------------------------------------------------- handles */

/* Numbers that name pointers; the number of a removed one never names another. */
typedef struct hw_handles hw_handles;

/* At most `count_max` at a time; 0 for as many as there are addresses for. */
hw_handles *hw_handles_new(hw_backing *backing, uint32_t count_max, hw_error *error);
void hw_handles_delete(hw_handles *handles);

/* A number for `value`, which is not NULL; 0 on failure. */
uint64_t hw_handles_insert(hw_handles *handles, void *value, hw_error *error);

/* What `handle` names, or NULL if it was removed or never was. */
void *hw_handles_get(const hw_handles *handles, uint64_t handle);

/* The same, which it names no longer. */
void *hw_handles_remove(hw_handles *handles, uint64_t handle);

int32_t hw_handles_statistics(const hw_handles *handles, hw_statistics *out);

/* Numbers that name pointers, which lie side by side: for walking all of them often. A look-up is
 * longer than that of hw_handles. */
typedef struct hw_dense hw_dense;

/* At most `count_max` at a time; 0 for as many as there are addresses for. */
hw_dense *hw_dense_new(hw_backing *backing, uint32_t count_max, hw_error *error);
void hw_dense_delete(hw_dense *dense);

/* A number for `value`, which is not NULL; 0 on failure. */
uint64_t hw_dense_insert(hw_dense *dense, void *value, hw_error *error);

/* What `handle` names, or NULL if it was removed or never was. */
void *hw_dense_get(const hw_dense *dense, uint64_t handle);

/* The same, which it names no longer; the last pointer of all moves into its place. */
void *hw_dense_remove(hw_dense *dense, uint64_t handle);

/* All pointers, until the next insertion or removal, and how many; NULL if there are none. `count`
 * may be NULL. */
void *const *hw_dense_values(const hw_dense *dense, size_t *count);

int32_t hw_dense_statistics(const hw_dense *dense, hw_statistics *out);

/* ---------------------------------------------------------------- heap in a file */

/* A buddy heap that is found again with its contents, at another address: keep offsets in it, no
 * pointers. One process at a time. `application` is a number of the caller's choice, asked for at
 * each opening. */
typedef struct hw_file_heap hw_file_heap;

/* In a new or empty file; takes all disk blocks. */
hw_file_heap *hw_file_heap_create(const char *path, uint64_t application, uint64_t bytes,
                                  uint64_t leaf_bytes, bool trim, hw_error *error);

/* HW_FOREIGN, HW_TORN, HW_TRUNCATED, HW_NOT_CLOSED, HW_IN_USE tell what is wrong with the file. */
hw_file_heap *hw_file_heap_open(const char *path, uint64_t application, hw_error *error);

/* Opens a heap that was not closed, if its bits are sound; what its blocks hold is for the caller
 * to judge. */
hw_file_heap *hw_file_heap_salvage(const char *path, uint64_t application, hw_error *error);

void *hw_file_heap_alloc(hw_file_heap *heap, size_t bytes, size_t align_bytes, hw_error *error);
int32_t hw_file_heap_free(hw_file_heap *heap, void *block, size_t bytes, size_t align_bytes,
                          hw_error *error);

/* Where the byte at `offset` of the file is now; NULL if no block can be there. */
void *hw_file_heap_at(const hw_file_heap *heap, uint64_t offset);

/* The offset of an address of the heap; 0 for another. */
uint64_t hw_file_heap_offset(const hw_file_heap *heap, const void *block);

/* One of eight offsets to begin with after an opening; 0 if there is none. */
uint64_t hw_file_heap_root(const hw_file_heap *heap, uint32_t index);
int32_t hw_file_heap_set_root(hw_file_heap *heap, uint32_t index, uint64_t offset);

/* Writes all that changed to the disk and waits; the heap stays open. */
int32_t hw_file_heap_sync(hw_file_heap *heap, hw_error *error);

/* HW_TRUNCATED if somebody cut the file; touching what is missing would be SIGBUS. */
int32_t hw_file_heap_check(const hw_file_heap *heap, hw_error *error);

/* Writes all to the disk, marks it as whole, and deletes the object, also after an error. */
int32_t hw_file_heap_close(hw_file_heap *heap, hw_error *error);

/* As hw_file_heap_close, for who does not ask whether it went well. */
void hw_file_heap_delete(hw_file_heap *heap);

int32_t hw_file_heap_statistics(const hw_file_heap *heap, hw_statistics *out);

/* ---------------------------------------------------------------- heaps */

/* A heap of one's own: blocks of any size, allocated, resized and freed by any thread, within a
 * budget if it has one, and all gone when it is deleted: O(32 KiB held), whatever lives in it. One
 * lock. Unlike all other objects here a heap is a name and may be used by threads at a time; one
 * that was deleted is HW_STALE, also when others were made since. */
typedef struct hw_heap {
    const void *place;      /* NULL is no heap */
    uint64_t id;            /* never used again in the process */
} hw_heap;

#define HW_NO_HEAP ((hw_heap){NULL, 0})

typedef struct hw_heap_options {
    size_t limit_bytes;     /* of usable bytes in live blocks; 0 is none */
    const char *name;       /* for reports: UTF-8, the first 32 bytes are kept; or NULL */
    bool has_node;          /* memory of NUMA node `node`, then of the nearest ones; else of */
    uint32_t node;          /* where the allocating thread runs */
} hw_heap_options;

/* NULL for options is none of them. `place` of the result is NULL on failure. */
hw_heap hw_heap_new(const hw_heap_options *options, hw_error *error);

/* Frees all blocks, which nobody uses any more. HW_NO_HEAP is nothing. */
int32_t hw_heap_delete(hw_heap heap);

/* A block, a unique one also for 0 bytes; NULL on failure, with HW_OVER_LIMIT, HW_NO_MEMORY or
 * HW_STALE. */
void *hw_heap_alloc(hw_heap heap, size_t bytes, size_t align_bytes, hw_error *error);
void *hw_heap_alloc_zeroed(hw_heap heap, size_t bytes, size_t align_bytes, hw_error *error);

/* Resizes a block of `heap`, keeping what fits; NULL for a block is an allocation. After a failure
 * the block is as before. A block that moves counts twice for the limit meanwhile. */
void *hw_heap_realloc(hw_heap heap, void *block, size_t bytes, size_t align_bytes,
                      hw_error *error);

/* Frees a block of whatever heap of this library; NULL is nothing. The program's free() does not
 * know these blocks. */
void hw_heap_free(void *block);

/* Bytes of a live block that may be touched. */
size_t hw_heap_usable_bytes(void *block);

/* The heap of a live block of this library. */
hw_heap hw_heap_of(void *block);

/* For what is allocated from now on; 0 is no limit. */
int32_t hw_heap_set_limit(hw_heap heap, size_t limit_bytes);

/* Gives free memory of the heap back to the library's pool. */
int32_t hw_heap_trim(hw_heap heap);

/* requested, resident and largest_free are HW_UNKNOWN; the others are exact. */
int32_t hw_heap_statistics(hw_heap heap, hw_statistics *out);

/* The name, of at most 32 bytes and the zero. */
int32_t hw_heap_name(hw_heap heap, char buffer[33]);

typedef struct hw_live_block {
    void *start;
    size_t usable_bytes;
    hw_heap heap;
    int32_t size_class;     /* -1 for a block over 32 KiB */
} hw_live_block;

/* Is told of a block; says whether to go on. May allocate and free. */
typedef bool (*hw_visit)(void *context, const hw_live_block *block);

/* Every live block of `heap`, or of all heaps of this library for HW_NO_HEAP, by address: as they
 * were at the call, exactly if no other thread allocates or frees meanwhile. Else a block that is
 * live all the time is told of once, one that is free all the time never, another one perhaps; and
 * blocks may be gone when they are told of. */
int32_t hw_heap_walk(hw_heap heap, hw_visit visit, void *context, hw_error *error);

/* Options of the library's heaps, by name and as text: HW_INVALID for an unknown name, another
 * value, and options of the process's start. See docs/design/heaps.md, or the environment's
 * HEAPWRIGHT_...; or define `const char heapwright_options[] = "soft_limit=2G,purger=0";` in a
 * program that links the static library. */
int32_t hw_set_option(const char *name, const char *value);

/* The value in force: bytes (SIZE_MAX is none), or 0 or 1. */
int32_t hw_option(const char *name, size_t *value);

/* ---------------------------------------------------------------- the program's malloc */

/* Functions of libheapwright_preload.so, for programs that may be started with it: NULL without
 * it. They need no library. */
#if defined(__GNUC__) && defined(__ELF__)

/* As hw_set_option, for the program's malloc: 0, ENOENT for an unknown name, EINVAL for a value
 * that it cannot have, EBUSY for an option of the process's start. */
__attribute__((weak)) int heapwright_set_option(const char *name, const char *value);

/* As hw_option: 0, ENOENT or EINVAL. */
__attribute__((weak)) int heapwright_option(const char *name, size_t *value);

/* As hw_heap_walk for all heaps: 0, EINVAL or ENOMEM. `heap` is 0 for malloc's own. */
__attribute__((weak)) int heapwright_walk(bool (*visit)(void *context, void *start,
                                                        size_t usable_bytes, uint64_t heap,
                                                        int size_class),
                                          void *context);

/* Gives everything back to the kernel that holds no live block, in mode compact merges what can be
 * merged; returns how many bytes went back. Milliseconds for each hundred MB of sparse memory;
 * other threads go on. */
__attribute__((weak)) size_t heapwright_release(void);

/* What merging (mode compact) did so far in this process. Later versions add fields at the end. */
typedef struct heapwright_merging_t {
    const char *state;           /* "works", or why nothing is merged */
    uint64_t works;              /* 1 when it works */
    uint64_t pass_count;         /* looks over the heap */
    uint64_t window_count;       /* windows of 16 KiB that share pages now */
    uint64_t merged_count;       /* windows merged since the start */
    uint64_t refused_count;      /* windows that the kernel did not give: pinned, no mappings */
    int64_t freed_bytes;         /* given back since the start */
    uint64_t cpu_ns;             /* CPU time of all that */
    uint64_t step_ns_max;        /* the longest that anybody waited for a window */
    uint64_t step_cpu_ns_max;    /* the same in the merging thread's own time */
    uint64_t stretch_cpu_ns_max; /* a thread of the program's own time at a stretch, at most */
    uint64_t stretch_count;      /* such stretches; 0 where a thread of ours merges */
    uint64_t merged_again_count; /* windows merged again since most of their company had died */
} heapwright_merging_t;

/* Fills the first `bytes` bytes of `out`: 0, or EINVAL for NULL or more than the object knows. */
__attribute__((weak)) int heapwright_merging(heapwright_merging_t *out, size_t bytes);

#endif

/* ---------------------------------------------------------------- NUMA */

#define HW_NODE_COUNT_MAX 64

/* The machine's nodes: bit n is node n. One without CPUs is memory behind a link. */
typedef struct hw_nodes {
    uint64_t online;
    uint64_t with_memory;
    uint64_t with_cpus;
    uint64_t memory_bytes[HW_NODE_COUNT_MAX];
} hw_nodes;

/* Where pages lie. */
typedef struct hw_placement {
    uint64_t pages_on[HW_NODE_COUNT_MAX];
    uint64_t absent_pages;  /* without memory */
    uint64_t unknown_pages; /* there, and the kernel did not say where */
} hw_placement;

size_t hw_page_bytes(void);
int32_t hw_nodes_read(hw_nodes *out);

/* 10 is local, 20 twice as far; 255 for a node that is not there. */
uint32_t hw_node_distance(uint32_t from, uint32_t to);

/* The node where the thread runs now; some nanoseconds. */
uint32_t hw_node_current(void);

/* Whole OS pages of zeroes on `node`, each read back from the kernel. */
void *hw_pages_on_node(size_t bytes, uint32_t node, hw_error *error);

/* Near the CPU that the thread runs on, or as near as there is memory. */
void *hw_pages_local(size_t bytes, hw_error *error);

/* With the same length as they were asked for with. NULL is nothing. */
void hw_pages_free(void *start, size_t bytes);

/* Where the pages of a range lie now; `start` is a multiple of the OS page, here and below. */
int32_t hw_placement_read(void *start, size_t bytes, hw_placement *out, hw_error *error);

/* Moves pages of the caller's that are there to `node`, and tells where they lie then. */
int32_t hw_migrate(void *start, size_t bytes, uint32_t node, hw_placement *out, hw_error *error);

/* Where pages of a range of the caller's come from that are not there yet. */
int32_t hw_bind_range(void *start, size_t bytes, int32_t policy, uint64_t nodes, hw_error *error);

#ifdef __cplusplus
}
#endif
#endif
