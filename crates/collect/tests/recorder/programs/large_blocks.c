/* Large blocks and mappings: a realloc that fails, mappings unmapped in part, mapped over, and
 * thousands of large blocks alive beside many small ones. */
#include "counted.h"
#include <stdint.h>
#include <sys/mman.h>

int main(void) {
    char *kept = take(SIZE(1 << 14)); /* 1 MiB, 10 pages of it touched */
    for (int i = 0; i < 10; i++) kept[i * 4096 + 100] = 1;
    require(realloc(kept, SIZE_MAX / 4) == NULL, "no memory");
    give(kept);
    char *map = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(map != MAP_FAILED, "mmap");
    memset(map, 1, 1 << 18);
    require(munmap(map + (1 << 19), 1 << 18) == 0, "hole");
    require(mmap(map, 1 << 16, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == map, "over");
    require(munmap(map, 1 << 20) == 0, "all");
    void *space = mmap(NULL, 1ul << 42, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    require(space != MAP_FAILED, "address space");
    require(munmap(space, 1ul << 42) == 0, "address space back");
    enum { LARGE = 3000 };
    static void *large[LARGE];
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
    for (int i = 0; i < LARGE; i++) large[i] = take(SIZE(2049 + i % 8));
    for (int i = 0; i < 200000; i++) give(take(SIZE(i % 30)));
    for (int i = 0; i < LARGE; i++) give(large[i]);
    print_counts();
    return 0;
}
