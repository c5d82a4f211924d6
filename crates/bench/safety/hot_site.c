// A hot site: COUNT blocks from one place, all alive, and a read 16 bytes behind the end of block
// number WHICH, or with -DWRITES a byte written right behind its end.
#include "twin.h"
#include <stdint.h>

__attribute__((noinline)) static char *one(size_t bytes) { return (char *)malloc(bytes); }

int main(int argc, char **argv) {
    size_t count = argc > 1 ? strtoull(argv[1], 0, 10) : 1000;
    size_t which = argc > 2 ? strtoull(argv[2], 0, 10) : 0;
    char **all = (char **)malloc(count * sizeof *all);
#ifdef WRITES
    for (size_t i = 0; i < count; i++) all[i] = one(44);
    all[which][44] = 1;
#else
    for (size_t i = 0; i < count; i++) all[i] = one(48);
    sink = all[which][48 + 15];
#endif
    for (size_t i = 0; i < count; i++) free(all[i]);
    free(all);
    return 0;
}
