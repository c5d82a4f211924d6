/* Prints its counts, then SIGKILL: nothing of the process runs any more. */
#include "counted.h"
#include <signal.h>

int main(void) {
    for (int i = 0; i < 20000; i++) {
        void *block = take(SIZE(i % 30));
        if (i % 4) give(block);
    }
    print_counts();
    kill(getpid(), SIGKILL);
    return 0;
}
