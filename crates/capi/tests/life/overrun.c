// Writes one byte after a block: for a tool that finds that.
#include <stdlib.h>

int main(void) {
    char *volatile block = malloc(40);
    block[40] = 1;
    free(block);
    return 0;
}
