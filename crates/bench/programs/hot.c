// A given number of malloc and free pairs, or of mallocs followed by as many frees, and nothing
// else: two runs that differ in the number alone tell the instructions of one operation.
#include <stdlib.h>

int main(int argc, char **argv) {
    long pairs = argc > 1 ? atol(argv[1]) : 0;
    size_t bytes = argc > 2 ? (size_t)atol(argv[2]) : 64;
    for (long i = 0; i < pairs; i++) {
        void *volatile block = malloc(bytes);
        free(block);
    }
    return 0;
}
