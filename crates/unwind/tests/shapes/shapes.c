/* Functions with every kind of frame that compilers make, without frame pointers, driven by a
 * script of bytes: each function runs the script until it says to return. */
#define _GNU_SOURCE
#include <alloca.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

struct run {
    const uint8_t *at;
    const uint8_t *end;
    void (*sample)(void *);
    void *data;
    jmp_buf *catcher;
    int coroutine_count;
};

typedef long shape(struct run *);
extern shape *const shapes[];
extern const int shape_count;

enum { RETURN = 0, SAMPLE = 1, THROW = 2, FIRST_SHAPE = 3 };

#define KEEP __attribute__((noinline, noclone, noipa))

__attribute__((always_inline)) static inline long play(struct run *run) {
    long sum = 0;
    while (run->at < run->end) {
        uint8_t op = *run->at++;
        if (op == RETURN)
            break;
        if (op == SAMPLE)
            run->sample(run->data);
        else if (op == THROW) {
            if (run->catcher)
                longjmp(*run->catcher, 1);
        } else
            sum += shapes[(op - FIRST_SHAPE) % shape_count](run);
    }
    return sum;
}

KEEP long shape_plain(struct run *run) { return play(run) + 1; }
/* The same frame as shape_plain at other addresses. */
KEEP long shape_twin(struct run *run) { return play(run) + 2; }

KEEP long shape_large(struct run *run) {
    volatile char room[5000];
    room[run->end - run->at & 4095] = 1;
    return play(run) + room[7];
}

KEEP long shape_variable(struct run *run) {
    size_t bytes = 16 + (run->end - run->at) % 700;
    volatile char room[bytes];
    room[bytes - 1] = 3;
    return play(run) + room[bytes - 1];
}

KEEP long shape_alloca(struct run *run) {
    volatile char *room = alloca(32 + (run->end - run->at) % 300);
    room[3] = 3;
    long sum = play(run);
    room = alloca(64);
    room[0] = (char)sum;
    return sum + room[0];
}

KEEP long shape_realigned(struct run *run) {
    volatile char room[256] __attribute__((aligned(128)));
    room[(run->end - run->at) & 255] = 1;
    return play(run) + room[9];
}

KEEP long shape_realigned_variable(struct run *run) {
    volatile char room[128] __attribute__((aligned(64)));
    volatile char more[17 + (run->end - run->at) % 99];
    more[0] = room[(run->end - run->at) & 127] = 1;
    return play(run) + room[9] + more[0];
}

/* Uses all callee-saved registers, rbp as a plain number that changes. */
KEEP long shape_busy(struct run *run) {
    long a = (long)run, b = a * 3, c = b ^ 77, d = c + 5, e = d * 11, f = e ^ a;
    for (int i = 0; i < 2; i++) {
        a += play(run);
        b ^= a;
        c += b * 3;
        d ^= c;
        e += d;
        f ^= e + a;
        __asm__ volatile("" : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
    }
    return a ^ b ^ c ^ d ^ e ^ f;
}

/* Seven or more arguments: some on the stack. */
KEEP static long many(long a, long b, long c, long d, long e, long f, long g, struct run *run) {
    return play(run) + a + b + c + d + e + f + g;
}
KEEP long shape_arguments(struct run *run) { return many(1, 2, 3, 4, 5, 6, 7, run) + 1; }

static struct run *sorted_run;
static int compare(const void *a, const void *b) {
    struct run *run = sorted_run;
    if (run) {
        sorted_run = 0;
        play(run);
    }
    return *(const char *)a - *(const char *)b;
}
KEEP long shape_callback(struct run *run) {
    char numbers[5] = "41352";
    sorted_run = run;
    qsort(numbers, 5, 1, compare);
    return numbers[0];
}

KEEP long shape_catch(struct run *run) {
    jmp_buf here, *before = run->catcher;
    run->catcher = &here;
    volatile long sum = 0;
    if (setjmp(here) == 0)
        sum = play(run);
    run->catcher = before;
    return sum;
}

/* Ends with a call that does not return, so the return address lies behind the function. */
KEEP __attribute__((noreturn)) static void no_return(struct run *run) {
    play(run);
    longjmp(*run->catcher, 1);
}
KEEP __attribute__((noreturn)) static void calls_no_return(struct run *run) { no_return(run); }
KEEP long shape_no_return(struct run *run) {
    jmp_buf here, *before = run->catcher;
    run->catcher = &here;
    if (setjmp(here) == 0)
        calls_no_return(run);
    run->catcher = before;
    return 1;
}

/* A coroutine on a stack of its own, between guard pages. */
static __thread ucontext_t outside;
static __thread struct run *coroutine_run;
static void coroutine(void) { play(coroutine_run); }
KEEP long shape_coroutine(struct run *run) {
    if (run->coroutine_count)
        return play(run);
    size_t bytes = 1 << 17;
    char *room = mmap(0, bytes + 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(room + 4096, bytes, PROT_READ | PROT_WRITE);
    ucontext_t inside;
    getcontext(&inside);
    inside.uc_stack.ss_sp = room + 4096;
    inside.uc_stack.ss_size = bytes;
    inside.uc_link = &outside;
    makecontext(&inside, coroutine, 0);
    jmp_buf *before = run->catcher;
    run->catcher = 0; /* Jumping to another stack is not allowed. */
    run->coroutine_count++;
    coroutine_run = run;
    swapcontext(&outside, &inside);
    run->coroutine_count--;
    run->catcher = before;
    munmap(room, bytes + 8192);
    return 5;
}

static __thread struct run *signal_run;
static void on_signal(int number) {
    struct run *run = signal_run;
    (void)number;
    jmp_buf *before = run->catcher;
    run->catcher = 0;
    play(run);
    run->catcher = before;
}
static long send(struct run *run, int number, int flags) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_NODEFER | flags};
    sigaction(number, &action, 0);
    signal_run = run;
    raise(number);
    return 3;
}
KEEP long shape_signal(struct run *run) { return send(run, SIGUSR1, 0) + 1; }
/* Interrupted at an instruction that is no call: the first one of a function. */
KEEP static long traps(long x) {
    __asm__ volatile("ud2");
    return x * 3;
}
static void skip_trap(int number, siginfo_t *info, void *context) {
    (void)info;
    on_signal(number);
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2;
}
KEEP long shape_trap(struct run *run) {
    struct sigaction action = {.sa_sigaction = skip_trap, .sa_flags = SA_NODEFER | SA_SIGINFO};
    sigaction(SIGILL, &action, 0);
    signal_run = run;
    return traps((long)run) + 1;
}
KEEP long shape_other_stack(struct run *run) {
    size_t bytes = 1 << 17;
    char *room = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t before, stack = {.ss_sp = room, .ss_size = bytes};
    sigaltstack(0, &before);
    long value;
    if (before.ss_flags & SS_ONSTACK)
        value = play(run);
    else {
        sigaltstack(&stack, &before);
        value = send(run, SIGUSR2, SA_ONSTACK);
        sigaltstack(&before, 0);
    }
    munmap(room, bytes);
    return value;
}

shape *const shapes[] = {
    shape_plain,     shape_twin,      shape_large,     shape_variable,
    shape_alloca,    shape_realigned, shape_realigned_variable,
    shape_busy,      shape_arguments, shape_callback,  shape_catch,
    shape_no_return, shape_signal,    shape_trap,      shape_other_stack,
    shape_coroutine,
};
const int shape_count = sizeof shapes / sizeof *shapes;

void run_script(const uint8_t *script, size_t bytes, void (*sample)(void *), void *data) {
    struct run run = {script, script + bytes, sample, data, 0, 0};
    while (run.at < run.end)
        shape_plain(&run);
}
