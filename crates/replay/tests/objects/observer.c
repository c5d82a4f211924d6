/* An allocator that never reuses memory and counts what it sees: threads, frees by another
   thread than the allocating one, blocks that are not zero when calloc'ed or not whole when
   freed. It tells at exit, into the file that OBSERVER names. */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct head { uint64_t size; uint32_t thread; uint32_t state; };
#define ALIVE 0xa11feu
#define DEAD 0xdeadu

static volatile int lock;
static char *next, *end;
static uint64_t live, peak, allocs, frees, remote_frees, bad_frees, threads, deaths;
static __attribute__((tls_model("initial-exec"))) __thread uint32_t own;

static void enter(void) { while (__sync_lock_test_and_set(&lock, 1)) __builtin_ia32_pause(); }
static void leave(void) { __sync_lock_release(&lock); }

static void *take(uint64_t size, uint64_t align) {
    enter();
    if (!own) own = ++threads;
    uint64_t need = size + align + sizeof(struct head);
    if (next == 0 || (uint64_t)(end - next) < need) {
        uint64_t bytes = need > (64u << 20) ? need : (64u << 20);
        next = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        end = next + bytes;
    }
    char *block = (char *)(((uintptr_t)next + sizeof(struct head) + align - 1) & -align);
    next = (char *)(((uintptr_t)block + size + 15) & -16);
    struct head *head = (struct head *)block - 1;
    *head = (struct head){size, own, ALIVE};
    allocs++;
    live += size;
    if (live > peak) peak = live;
    leave();
    return block;
}

void *malloc(size_t size) { return take(size, 16); }
void *calloc(size_t count, size_t size) { return take(count * size, 16); }
int posix_memalign(void **out, size_t align, size_t size) {
    *out = take(size, align < 16 ? 16 : align);
    return 0;
}
size_t malloc_usable_size(void *block) { return block ? ((struct head *)block - 1)->size : 0; }

void free(void *block) {
    if (!block) return;
    struct head *head = (struct head *)block - 1;
    enter();
    if (!own) own = ++threads;
    frees++;
    remote_frees += head->thread != own;
    bad_frees += head->state != ALIVE;
    head->state = DEAD;
    live -= head->size;
    leave();
}

void *realloc(void *block, size_t size) {
    void *fresh = take(size, 16);
    if (!block) return fresh;
    uint64_t old = malloc_usable_size(block);
    memcpy(fresh, block, old < size ? old : size);
    free(block);
    return fresh;
}

const char heapwright_peer_version[] = "observer 1.0";

__attribute__((destructor)) static void tell(void) {
    char *path = getenv("OBSERVER");
    if (!path) return;
    FILE *out = fopen(path, "w");
    if (!out) return;
    fprintf(out, "%lu %lu %lu %lu %lu %lu\n", threads, allocs, frees, remote_frees, bad_frees, peak);
    fclose(out);
}
