/* Prints its counts, and whether LD_PRELOAD is set. */
#include "counted.h"

int main(void) {
    for (int i = 0; i < 100; i++) give(take(SIZE(i % 5)));
    print_counts();
    const char *answer = getenv("LD_PRELOAD") ? "preloaded\n" : "plain\n";
    require(write(1, answer, strlen(answer)) > 0, "write");
    return 6;
}
