// The n-th system call for memory that the allocator makes fails, for every n.
//   faults OBJECT one|all plenty|little FIRST STRIDE      with HEAPWRIGHT_PURGER=0
// With `little` there is no address space for a region, and blocks are mappings of their own.
// The object is loaded into a process of its own for each n = FIRST, FIRST + STRIDE, ...; there a
// filter has the kernel stop each mmap, munmap, mremap, mprotect, madvise and membarrier that
// comes from the object's code, from the first one on. The n-th (with `all`: every one from the
// n-th on) fails with ENOMEM (membarrier: EPERM), the others are made. A program of random
// operations then has to end well: what fails says so, every byte of every live block is kept, and
// a walk over all heaps finds exactly the blocks that live.
// The purger's thread, which blocks all signals, cannot be stopped so; malloc_trim does its work.
// Ends at the first n that a program does not reach; prints how many there were.
#include "check.h"
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <ucontext.h>

enum { SLOTS = 150, STEPS = 1200, THREADS = 3, PATIENCE_S = 60, LITTLE_BYTES = 110 << 20 };

static struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    void (*free)(void *);
    size_t (*usable)(void *);
    int (*trim)(size_t);
    int (*walk)(bool (*)(void *, void *, size_t, uint64_t, int), void *);
} own;

// Of the calls made so far; which one fails, and whether those after it do.
static atomic_long calls, failing;
static int is_all, is_little;
static const struct {
    int number;
    const char *name;
} kinds[] = {{SYS_mmap, "mmap"},         {SYS_munmap, "munmap"},   {SYS_mremap, "mremap"},
             {SYS_mprotect, "mprotect"}, {SYS_madvise, "madvise"}, {SYS_membarrier, "membarrier"}};
enum { KINDS = sizeof kinds / sizeof *kinds };
static atomic_long calls_of[KINDS];
static uintptr_t code_start, code_end;

static long direct(long number, const greg_t *r) {
    register long r10 __asm__("r10") = r[REG_R10];
    register long r8 __asm__("r8") = r[REG_R8];
    register long r9 __asm__("r9") = r[REG_R9];
    long result;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(r[REG_RDI]), "S"(r[REG_RSI]), "d"(r[REG_RDX]), "r"(r10),
                       "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

// Runs with the allocator's locks held: no call into any library.
static void stopped(int signal, siginfo_t *info, void *context) {
    (void)signal;
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    long number = info->si_syscall;
    long count = ++calls, n = failing;
    for (int i = 0; i < KINDS; i++) calls_of[i] += kinds[i].number == number;
    if (n > 0 && (count == n || (is_all && count > n)))
        r[REG_RAX] = number == SYS_membarrier ? -EPERM : -ENOMEM;
    else
        r[REG_RAX] = direct(number, r);
}

static int is_code(struct dl_phdr_info *info, size_t bytes, void *name) {
    (void)bytes;
    if (!strstr(info->dlpi_name, name)) return 0;
    for (int i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_LOAD && info->dlpi_phdr[i].p_flags & PF_X) {
            uintptr_t start = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
            if (!code_start) code_start = start;
            code_end = start + info->dlpi_phdr[i].p_memsz;
        }
    return 1;
}

static int set_filter(void) {
    struct sigaction action = {.sa_sigaction = stopped, .sa_flags = SA_SIGINFO | SA_NODEFER};
    CHECK(sigaction(SIGSYS, &action, NULL) == 0);
    uint32_t low = offsetof(struct seccomp_data, instruction_pointer);
    uint32_t first = (uint32_t)code_start, last = (uint32_t)code_end;
    struct sock_filter filter[KINDS + 9] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr))};
    for (int i = 0; i < KINDS; i++)
        filter[1 + i] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kinds[i].number,
                                                     KINDS - i, 0);
    struct sock_filter rest[] = {
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, low + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(code_start >> 32), 0, 4),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, low),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, last, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    memcpy(filter + 1 + KINDS, rest, sizeof rest);
    struct sock_fprog program = {KINDS + 9, filter};
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

// A live block, and what its bytes are.
typedef struct {
    unsigned char *start;
    size_t bytes;
    unsigned char fill;
} block_t;

typedef struct {
    // Whose step is next: the calls are to come in the same order each time.
    _Atomic long turn;
    block_t block[SLOTS];
    long refused, taken;
} table_t;

static table_t *table;

static void expect_filled(const block_t *block) {
    for (size_t i = 0; i < block->bytes; i++)
        if (block->start[i] != block->fill) {
            fprintf(stderr, "byte %zu of %zu is lost\n", i, block->bytes);
            _exit(3);
        }
}

static size_t random_bytes(uint64_t *seed) {
    uint32_t dice = random_next(seed) % 100;
    uint32_t most = dice < 60 ? 300 : dice < 90 ? 8000 : dice < 98 ? 100000 : 2500000;
    return 1 + random_next(seed) % most;
}

// One operation on a slot that is this thread's for so long.
static void step(uint64_t *seed) {
    block_t *slot = &table->block[random_next(seed) % SLOTS];
    uint32_t what = random_next(seed) % 12;
    size_t bytes = random_bytes(seed);
    unsigned char *start = NULL;
    // Large ones grow, whose pages can then be moved.
    if (slot->bytes >= 500000 && slot->bytes < 5000000) {
        what = 0;
        bytes = 2 * slot->bytes;
    }
    if (slot->start && what < 3) {
        expect_filled(slot);
        errno = 0;
        start = own.realloc(slot->start, bytes);
        if (start) {
            block_t kept = {start, bytes < slot->bytes ? bytes : slot->bytes, slot->fill};
            slot->start = start;
            slot->bytes = bytes;
            expect_filled(&kept);
        }
    } else {
        if (slot->start) {
            expect_filled(slot);
            own.free(slot->start);
            *slot = (block_t){0};
        }
        if (what < 5) return;
        errno = 0;
        size_t align = (size_t)16 << random_next(seed) % 10;
        if (what < 9) start = own.malloc(bytes);
        else if (what < 11) start = own.calloc(1, bytes);
        else start = own.aligned_alloc(align, bytes);
        if (start && what >= 9 && what < 11) {
            block_t zero = {start, bytes, 0};
            expect_filled(&zero);
        }
        if (start && what == 11) CHECK((uintptr_t)start % align == 0);
        if (start) *slot = (block_t){start, bytes, (unsigned char)random_next(seed)};
    }
    if (!start) {
        CHECK(errno == ENOMEM && failing > 0);
        table->refused++;
        return;
    }
    table->taken++;
    CHECK(own.usable(slot->start) >= bytes);
    memset(slot->start, slot->fill, slot->bytes);
}

static void *work(void *argument) {
    long own_number = (long)argument;
    uint64_t seed = 77 + (uint64_t)own_number;
    for (int i = 0; i < STEPS / THREADS; i++) {
        while (table->turn % THREADS != own_number) sched_yield();
        step(&seed);
        if (i % 100 == 50) own.trim(0);
        // Not after every step, since each change of turns costs a change of threads.
        if (i % 10 == 9) table->turn++;
    }
    return NULL;
}

static bool visit(void *context, void *start, size_t bytes, uint64_t heap, int size_class) {
    (void)heap, (void)size_class;
    long *found = context;
    for (int i = 0; i < SLOTS; i++)
        if (table->block[i].start == start) {
            CHECK(bytes >= table->block[i].bytes);
            ++*found;
            return true;
        }
    fprintf(stderr, "a block of %zu bytes that nobody has\n", bytes);
    _exit(4);
}

static void expect_whole(void) {
    long live = 0, found = 0;
    for (int i = 0; i < SLOTS; i++)
        if (table->block[i].start) {
            expect_filled(&table->block[i]);
            live++;
        }
    CHECK(own.walk(visit, &found) == 0);
    CHECK(found == live);
}

// A process: loads the object, and runs the program with its n-th call failing.
static void run(const char *object, long n, long *reached, long *reached_of) {
    alarm(PATIENCE_S);
    struct rlimit little = {LITTLE_BYTES, LITTLE_BYTES};
    if (is_little) CHECK(setrlimit(RLIMIT_AS, &little) == 0);
    void *handle = dlopen(object, RTLD_NOW | RTLD_LOCAL);
    CHECK(handle);
    const char *name = strrchr(object, '/');
    dl_iterate_phdr(is_code, (void *)(name ? name + 1 : object));
    CHECK(code_start && code_start >> 32 == code_end >> 32);
    if (!set_filter()) _exit(77);
    own.malloc = dlsym(handle, "malloc");
    own.calloc = dlsym(handle, "calloc");
    own.realloc = dlsym(handle, "realloc");
    own.aligned_alloc = dlsym(handle, "aligned_alloc");
    own.free = dlsym(handle, "free");
    own.usable = dlsym(handle, "malloc_usable_size");
    own.trim = dlsym(handle, "malloc_trim");
    own.walk = dlsym(handle, "heapwright_walk");
    failing = n;
    pthread_t thread[THREADS];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    for (long i = 0; i < THREADS; i++)
        CHECK(pthread_create(&thread[i], &attributes, work, (void *)i) == 0);
    for (int i = 0; i < THREADS; i++) pthread_join(thread[i], NULL);
    *reached = calls;
    for (int i = 0; i < KINDS; i++) reached_of[i] = calls_of[i];
    // A child has everything, too.
    pid_t child = fork();
    if (child == 0) {
        static table_t own_table;
        own_table = *table;
        table = &own_table;
        failing = 0;
        expect_whole();
        uint64_t seed = 5;
        for (int i = 0; i < 100; i++) step(&seed);
        expect_whole();
        _exit(0);
    }
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    // What failed once works again.
    failing = 0;
    expect_whole();
    uint64_t seed = 6;
    for (int i = 0; i < 100; i++) step(&seed);
    expect_whole();
    for (int i = 0; i < SLOTS; i++) {
        own.free(table->block[i].start);
        table->block[i] = (block_t){0};
    }
    expect_whole();
    _exit(0);
}

int main(int argc, char **argv) {
    CHECK(argc == 6);
    const char *object = argv[1];
    is_all = strcmp(argv[2], "all") == 0;
    is_little = strcmp(argv[3], "little") == 0;
    long first = atol(argv[4]), stride = atol(argv[5]), runs = 0, refused = 0;
    struct {
        long reached, reached_of[KINDS];
        table_t table;
    } *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    table = &shared->table;
    for (long n = first;; n += stride) {
        memset(shared, 0, sizeof *shared);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) run(object, n, &shared->reached, shared->reached_of);
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
            puts("refused");
            return 0;
        }
        if (status != 0) {
            fprintf(stderr, "call %ld of %s %s: status %x, %ld taken, %ld refused\n", n,
                    argv[2], argv[3], status, table->taken, table->refused);
            return 1;
        }
        runs++;
        refused += table->refused;
        if (n > shared->reached) break;
    }
    printf("%ld runs, %ld refused, %ld calls:", runs, refused, shared->reached);
    for (int i = 0; i < KINDS; i++) printf(" %s %ld", kinds[i].name, shared->reached_of[i]);
    puts("");
    return 0;
}
