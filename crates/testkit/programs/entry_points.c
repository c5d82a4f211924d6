/* Every C entry point once or more: the counts go by kind. */
#include "counted.h"

int main(void) {
    void *blocks[16];
    int n = 0;
    blocks[n++] = take(SIZE(1));
    blocks[n++] = take_zeroed(SIZE(2));
    blocks[n++] = resize(NULL, SIZE(3));           /* realloc as malloc */
    blocks[0] = resize(blocks[0], SIZE(40));       /* grows */
    blocks[0] = resize(blocks[0], SIZE(1));        /* shrinks */
    count_realloc++;
    blocks[n++] = counted(reallocarray(NULL, 27, 1 + 64), 27 * 65); /* 27 modulo 64 too */
    blocks[n++] = take_aligned(64, SIZE(4));
    blocks[n++] = take_aligned(4096, SIZE(5));
    count_aligned++;
    blocks[n++] = counted(aligned_alloc(128, SIZE(6)), SIZE(6));
    count_aligned++;
    blocks[n++] = counted(memalign(256, SIZE(7)), SIZE(7));
    count_aligned++;
    blocks[n++] = counted(valloc(SIZE(8)), SIZE(8));
    /* pvalloc rounds its size up itself; a recorder may report either, so it comes in pages. */
    count_aligned++;
    void *pages = pvalloc(4096);
    require(pages != NULL && (size_t)pages % 4096 == 0, "pvalloc");
    count_bytes += 4096;
    blocks[n++] = pages;
    require(malloc_usable_size(blocks[1]) >= SIZE(2), "usable size");
    for (int i = 0; i < n; i++) give(blocks[i]);
    give(NULL); /* not an event */
    print_counts();
    return 0;
}
