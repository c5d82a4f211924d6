/* Argument 1 thousand random allocations of 16 B to 4 KiB over 10000 slots; prints a checksum. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    static unsigned char *slots[10000];
    static size_t sizes[10000];
    uint64_t state = 88172645463325252u, sum = 0;
    long operations = (argc > 1 ? atol(argv[1]) : 100) * 1000;
    for (long i = 0; i < operations; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        size_t slot = state % 10000, size = 16 + (state >> 20) % 4080;
        if (slots[slot] != NULL) {
            sum = sum * 31 + slots[slot][0] + slots[slot][sizes[slot] - 1];
            free(slots[slot]);
        }
        slots[slot] = malloc(size);
        if (slots[slot] == NULL) return 1;
        sizes[slot] = size;
        slots[slot][0] = (unsigned char)i;
        slots[slot][size - 1] = (unsigned char)(i >> 8);
    }
    printf("checksum %llu\n", (unsigned long long)sum);
    return 0;
}
