/* Prints something else at every run. */
#include <stdio.h>
#include <time.h>
#include <unistd.h>

int main(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    printf("%d %ld.%09ld\n", (int)getpid(), (long)now.tv_sec, now.tv_nsec);
    return 0;
}
