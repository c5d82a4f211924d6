/* A timer's handler allocates from an allocator that may be interrupted anywhere (the object of
 * `bump.c`), while main allocates without pause. Prints how many calls were made in all. */
#include "counted.h"
#include <signal.h>
#include <sys/time.h>

static volatile unsigned long ticks;

static void on_tick(int signal) {
    (void)signal;
    give(take(SIZE(3)));
    ticks++;
}

int main(void) {
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval every = {{0, 100}, {0, 100}};
    setitimer(ITIMER_REAL, &every, NULL);
    for (int i = 0; i < 100000 || ticks < 100; i++) give(take(SIZE(i % 30)));
    struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, NULL);
    print_counts();
    return 0;
}
