/* A timer interrupts the program about 1000 times a second wherever it is; between its own
 * calls it also raises a signal whose handler allocates on an alternate stack. */
#include "counted.h"
#include <signal.h>
#include <sys/time.h>

static _Atomic unsigned ticks;

static void on_tick(int signal) {
    (void)signal;
    ticks++;
}

static void on_user(int signal) {
    (void)signal;
    give(take(SIZE(9)));
}

int main(void) {
    static char stack_memory[64 * 1024];
    stack_t stack = {.ss_sp = stack_memory, .ss_size = sizeof stack_memory};
    require(sigaltstack(&stack, NULL) == 0, "sigaltstack");
    struct sigaction tick = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    struct sigaction user = {.sa_handler = on_user, .sa_flags = SA_ONSTACK | SA_RESTART};
    sigaction(SIGALRM, &tick, NULL);
    sigaction(SIGUSR1, &user, NULL);
    struct itimerval every = {{0, 1000}, {0, 1000}};
    setitimer(ITIMER_REAL, &every, NULL);
    void *kept[64] = {0};
    for (int i = 0; i < 50000; i++) {
        give(kept[i % 64]);
        kept[i % 64] = take(SIZE(i % 40));
        if (i % 1000 == 0) raise(SIGUSR1);
    }
    for (int i = 0; i < 64; i++) give(kept[i]);
    struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, NULL);
    print_counts();
    return 0;
}
