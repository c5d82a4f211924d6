// A library that is loaded while the program runs: large thread-local storage, blocks that
// cross its border, work when it comes and when it goes.
#include <stdlib.h>
#include <string.h>

static __thread char local[100000];
static void *from_start;

__attribute__((constructor)) static void comes(void) { from_start = malloc(3000); }
__attribute__((destructor)) static void goes(void) { free(from_start); }

void *plugin_block(size_t bytes) {
    local[bytes % sizeof local] = 1;
    return malloc(bytes);
}
void plugin_free(void *block) {
    local[99999]++;
    free(block);
}
