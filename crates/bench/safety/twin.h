// Helpers of the safety corpus. Each program is built twice: with -DBAD it has the error that its
// first line names; without, it is the same program without it. BYTES is the size of its block.
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <unistd.h>

#ifdef BAD
#define ERROR 1
#else
#define ERROR 0
#endif

#ifdef __cplusplus
extern "C" {
#endif
static volatile char sink;

__attribute__((noinline, unused)) static char *make(size_t bytes) {
    char *block = (char *)malloc(bytes); // made
    memset(block, 'a', bytes);
    return block;
}

__attribute__((noinline, unused)) static void drop(void *block) {
    free(block); // freed
    sink = 1;
}
#ifdef __cplusplus
}
#endif
