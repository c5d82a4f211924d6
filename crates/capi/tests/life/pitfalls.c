// What breaks preloaded allocators, one case each.
#include "check.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netdb.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>

extern char **environ;

// The object that a symbol comes from.
static const char *home_of(void *address) {
    Dl_info info;
    return dladdr(address, &info) && info.dli_fname ? info.dli_fname : "nowhere";
}
static int is_ours(const char *name) {
    void *address = dlsym(RTLD_DEFAULT, name);
    return address && strstr(home_of(address), "libheapwright_preload.so") != NULL;
}
static void all_ours(const char *const *names) {
    for (; *names; names++)
        if (!is_ours(*names)) {
            fprintf(stderr, "%s comes from %s\n", *names, home_of(dlsym(RTLD_DEFAULT, *names)));
            _exit(1);
        }
}

static void partial_symbol_set(void) {
    static const char *const names[] = {
        "malloc", "calloc", "realloc", "reallocarray", "free", "cfree", "aligned_alloc", "memalign",
        "posix_memalign", "valloc", "pvalloc", "malloc_usable_size", "free_sized",
        "free_aligned_sized", "malloc_trim", "mallinfo", "mallinfo2", "malloc_info",
        "malloc_stats", "mallopt", "reallocf", "reallocarr", "_Znwm", "_ZdlPv",
        "_ZdlPvmSt11align_val_t", NULL};
    all_ours(names);
    // Blocks that libc hands out are to be freed by `free`.
    char *line = NULL, *text;
    size_t room = 0;
    CHECK(asprintf(&text, "%d", 7) == 1 && strcmp(text, "7") == 0);
    free(text);
    free(strdup("copy"));
    FILE *file = fopen("/proc/self/status", "r");
    CHECK(getline(&line, &room, file) > 0 && malloc_usable_size(line) >= room);
    free(line);
    fclose(file);
    char *path = realpath("/proc/self/..", NULL);
    CHECK(path && malloc_usable_size(path) > 0);
    free(path);
}

static void doubles_of_libc(void) {
    static const char *const names[] = {
        "__libc_malloc", "__libc_calloc", "__libc_realloc", "__libc_reallocarray", "__libc_free",
        "__libc_cfree", "__libc_memalign", "__libc_valloc", "__libc_pvalloc", "__posix_memalign",
        NULL};
    all_ours(names);
}

// Blocks of another allocator, and addresses that are none's: ignored, and told apart.
static void foreign_pointers(void) {
    void *libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
    CHECK(libc);
    void *(*theirs)(size_t) = (void *(*)(size_t))dlsym(libc, "malloc");
    CHECK(theirs && !strstr(home_of((void *)theirs), "heapwright"));
    for (size_t bytes = 16; bytes < 1000000; bytes *= 3) {
        char *p = theirs(bytes);
        p[0] = 5;
        CHECK(malloc_usable_size(p) == 0);
        CHECK(realloc(p, bytes * 2) == NULL && p[0] == 5);
        free(p);
        CHECK(p[0] == 5);
    }
    char on_stack[64];
    free(on_stack + 16);
    char *mapped = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    free(mapped + 4096);
    mapped[0] = 1;
    churn_some(1, 2000);
}

void _ZdlPvm(void *, size_t) __attribute__((weak));
void _ZdlPvmSt11align_val_t(void *, size_t, size_t) __attribute__((weak));
void free_sized(void *, size_t) __attribute__((weak));
void free_aligned_sized(void *, size_t, size_t) __attribute__((weak));

static void wrong_size_at_delete(void) {
    size_t wrong[] = {0, 1, 8, 17, 4096, 1 << 20, SIZE_MAX};
    for (size_t bytes = 1; bytes < 400000; bytes = bytes * 2 + 7)
        for (unsigned i = 0; i < sizeof wrong / sizeof *wrong; i++) {
            _ZdlPvm(malloc(bytes), wrong[i]);
            _ZdlPvmSt11align_val_t(malloc(bytes), wrong[i], 64);
            free_sized(malloc(bytes), wrong[i]);
            free_aligned_sized(aligned_alloc(128, bytes), 8, wrong[i]);
        }
    churn_some(2, 5000);
}

static void *look_up(void *unused) {
    for (int i = 0; i < 300; i++) {
        CHECK(dlsym(RTLD_DEFAULT, "no_such_symbol") == NULL && dlerror() != NULL);
        CHECK(dlopen("/no/such/library.so", RTLD_NOW) == NULL && dlerror() != NULL);
        CHECK(dlsym(RTLD_NEXT, "malloc") != NULL);
    }
    return unused;
}
static void calloc_inside_dlsym(void) {
    pthread_t thread[4];
    for (int i = 0; i < 4; i++) CHECK(pthread_create(&thread[i], NULL, look_up, NULL) == 0);
    for (int i = 0; i < 4; i++) pthread_join(thread[i], NULL);
}

extern void *__dso_handle;
extern int __cxa_thread_atexit_impl(void (*)(void *), void *, void *);
static atomic_int destroyed;
static pthread_key_t keys[100];
static void destroy(void *block) {
    destroyed++;
    free(block);
    free(malloc(100));
}
static void *with_destructors(void *unused) {
    // The very first allocation of this thread happens inside libc.
    for (int i = 0; i < 5; i++) CHECK(__cxa_thread_atexit_impl(destroy, malloc(50), &__dso_handle) == 0);
    for (int i = 0; i < 100; i++) CHECK(pthread_setspecific(keys[i], malloc(60)) == 0);
    return unused;
}
static void calloc_inside_thread_exit_registration(void) {
    for (int i = 0; i < 100; i++) CHECK(pthread_key_create(&keys[i], destroy) == 0);
    for (int i = 0; i < 50; i++) {
        pthread_t thread;
        CHECK(pthread_create(&thread, NULL, with_destructors, NULL) == 0);
        pthread_join(thread, NULL);
    }
    CHECK(destroyed == 50 * 105);
}

static char plugin_path[4096];
static void *use_plugin(void *unused) {
    for (int i = 0; i < 60; i++) {
        void *plugin = dlopen(plugin_path, RTLD_NOW);
        CHECK(plugin);
        void *(*block)(size_t) = (void *(*)(size_t))dlsym(plugin, "plugin_block");
        void (*release)(void *) = (void (*)(void *))dlsym(plugin, "plugin_free");
        void *from_plugin = block(2000), *from_here = malloc(2000);
        CHECK(malloc_usable_size(from_plugin) >= 2000);
        release(from_here);
        CHECK(dlclose(plugin) == 0);
        free(from_plugin);
    }
    return unused;
}
static void find_plugin(void) {
    ssize_t length = readlink("/proc/self/exe", plugin_path, sizeof plugin_path - 20);
    CHECK(length > 0);
    strcpy(strrchr(plugin_path, '/') + 1, "plugin.so");
}
static void tls_of_what_is_loaded_later(void) {
    find_plugin();
    pthread_t thread[3];
    for (int i = 0; i < 3; i++) CHECK(pthread_create(&thread[i], NULL, use_plugin, NULL) == 0);
    for (int i = 0; i < 3; i++) pthread_join(thread[i], NULL);
}

// A second copy, in a namespace of its own as LD_AUDIT makes one, beside the preloaded one.
static void a_second_copy_in_a_namespace(void) {
    Dl_info info;
    CHECK(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info));
    void *copy = dlmopen(LM_ID_NEWLM, info.dli_fname, RTLD_NOW);
    CHECK(copy);
    void *(*theirs)(size_t) = (void *(*)(size_t))dlsym(copy, "malloc");
    void (*release)(void *) = (void (*)(void *))dlsym(copy, "free");
    CHECK(theirs && (void *)theirs != dlsym(RTLD_DEFAULT, "malloc"));
    void *block[100];
    for (int i = 0; i < 100; i++) {
        CHECK(block[i] = theirs((size_t)i * 500));
        memset(block[i], 1, (size_t)i * 500);
        CHECK(malloc_usable_size(block[i]) == 0);
    }
    churn_some(3, 2000);
    for (int i = 0; i < 100; i++) release(block[i]);
}

// No hole of the address space is larger than 64 GiB: a fresh copy of the object has to do with
// what it gets.
static void fragmented_address_space(void) {
    for (uintptr_t at = (uintptr_t)1 << 32; at < (uintptr_t)1 << 47; at += (uintptr_t)1 << 36)
        mmap((void *)at, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    a_second_copy_in_a_namespace();
}

// The kernel has no mapping left to give: blocks or null, and afterwards all is well again.
static void no_mappings_left(void) {
    enum { MOST = 200000 };
    static void *page[MOST];
    int count = 0;
    while (count < MOST) {
        int rights = count % 2 ? PROT_READ : PROT_NONE;
        page[count] = mmap(NULL, 4096, rights, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (page[count] == MAP_FAILED) break;
        count++;
    }
    void *block[3000];
    for (int i = 0; i < 3000; i++) {
        errno = 0;
        block[i] = malloc((size_t)i * 90);
        CHECK(block[i] || errno == ENOMEM);
        if (block[i]) memset(block[i], 1, (size_t)i * 90);
    }
    for (int i = 0; i < 3000; i++) free(block[i]);
    for (int i = 0; i < count; i++) munmap(page[i], 4096);
    churn_some(7, 5000);
    CHECK(malloc(100) && malloc(10 << 20));
}

// Before constructors: a resolver that the dynamic linker calls, and the preinit array.
static void *in_resolver, *in_preinit, *in_constructor;
static int resolved(void) { return 42; }
static int (*resolve(void))(void) {
    in_resolver = malloc(64);
    if (in_resolver) memset(in_resolver, 9, 64);
    return resolved;
}
int chosen(void) __attribute__((ifunc("resolve")));
static void preinit(int argc, char **argv, char **env) {
    (void)argc, (void)argv, (void)env;
    in_preinit = malloc(100);
}
__attribute__((section(".preinit_array"), used)) static void (*const preinit_entry)(int, char **,
                                                                                   char **) = preinit;
__attribute__((constructor(101))) static void first_constructor(void) {
    in_constructor = calloc(10, 100);
}
static void *in_exit_handler;
__attribute__((destructor(101))) static void last_destructor(void) {
    if (in_exit_handler) CHECK(malloc_usable_size(in_exit_handler) >= 500);
    free(in_exit_handler);
    for (int i = 0; i < 100; i++) {
        void *block = malloc((size_t)i * 300);
        CHECK(block && malloc_usable_size(block) >= (size_t)i * 300);
        free(block);
    }
}
static void exit_handler(void) { in_exit_handler = malloc(500); }
static void early_and_late_calls(void) {
    CHECK(chosen() == 42 && in_preinit && in_constructor && in_resolver);
    CHECK(malloc_usable_size(in_resolver) >= 64 && ((char *)in_resolver)[63] == 9);
    free(in_resolver);
    CHECK(malloc_usable_size(in_preinit) >= 100 && malloc_usable_size(in_constructor) >= 1000);
    free(in_preinit);
    free(in_constructor);
    CHECK(atexit(exit_handler) == 0);
}

static pthread_key_t late_key;
static atomic_int late_rounds;
static void late(void *value) {
    long round = (long)value;
    void *block = malloc(300 + (size_t)round * 1000);
    CHECK(block);
    free(block);
    late_rounds++;
    // As long as libc goes on.
    pthread_setspecific(late_key, (void *)(round + 1));
}
static void *only_frees(void *block) {
    free(block);
    strerror(100000 + (int)getpid());
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST}, *found = NULL;
    if (getaddrinfo("127.0.0.1", "80", &hints, &found) == 0) freeaddrinfo(found);
    pthread_setspecific(late_key, (void *)1);
    return malloc(77);
}
static void frees_after_the_thread_destructor(void) {
    CHECK(pthread_key_create(&late_key, late) == 0);
    for (int i = 0; i < 300; i++) {
        pthread_t thread[2];
        void *block;
        for (int k = 0; k < 2; k++)
            CHECK(pthread_create(&thread[k], NULL, only_frees, malloc((size_t)i * 20 + 1)) == 0);
        for (int k = 0; k < 2; k++) {
            CHECK(pthread_join(thread[k], &block) == 0 && malloc_usable_size(block) >= 77);
            free(block);
        }
    }
    CHECK(late_rounds >= 600);
}

static atomic_int handled;
static void allocate_in_handler(int signal) {
    (void)signal;
    int kept = errno;
    // Large and small: the first need the lock, the second may need it.
    free(malloc(200000));
    free(malloc(50));
    handled++;
    errno = kept;
}
static void signal_handlers_that_allocate(void) {
    struct sigaction action = {.sa_handler = allocate_in_handler, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval often = {{0, 300}, {0, 300}};
    setitimer(ITIMER_REAL, &often, NULL);
    time_t end = time(NULL) + 2;
    volatile uint64_t sum = 0;
    while (time(NULL) < end) {
        // Outside the allocator for the most part, in its slow path now and then.
        for (int i = 0; i < 20000; i++) sum += (uint64_t)i * sum + 1;
        free(malloc(100000));
    }
    struct itimerval never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &never, NULL);
    CHECK(handled > 100);
}

static void errno_is_left_alone(void) {
    void *block[64];
    for (int i = 0; i < 64; i++) CHECK(block[i] = malloc((size_t)1 << (i % 24)));
    for (int i = 0; i < 64; i++) {
        errno = 4000 + i;
        free(block[i]);
        CHECK(errno == 4000 + i);
    }
    errno = 4321;
    free(NULL);
    free(malloc(10));
    malloc_trim(0);
    malloc_usable_size(NULL);
    CHECK(errno == 4321);
}

void *_Znwm(size_t) __attribute__((weak));
static void alignment_that_code_assumes(void) {
    for (size_t bytes = 0; bytes < 5000; bytes++) {
        void *p = malloc(bytes), *q = _Znwm(bytes), *r = realloc(malloc(3), bytes + 1);
        CHECK((uintptr_t)p % 16 == 0 && (uintptr_t)q % 16 == 0 && (uintptr_t)r % 16 == 0);
        free(p);
        free(q);
        free(r);
    }
    for (size_t align = 16; align <= 1 << 21; align *= 2)
        for (size_t bytes = 1; bytes < 100000; bytes = bytes * 3 + 5) {
            void *p;
            CHECK(posix_memalign(&p, align, bytes) == 0 && (uintptr_t)p % align == 0);
            free(p);
        }
    void *p;
    CHECK(posix_memalign(&p, 24, 8) == EINVAL && posix_memalign(&p, 2, 8) == EINVAL);
}

static void usable_bytes_are_the_callers(void) {
    for (size_t bytes = 1; bytes < 40000000; bytes = bytes * 5 / 4 + 3) {
        unsigned char *p = malloc(bytes), *q = malloc(bytes);
        size_t usable = malloc_usable_size(p);
        CHECK(usable >= bytes);
        memset(p, 0xa1, usable);
        memset(q, 0xb2, malloc_usable_size(q));
        p = realloc(p, usable * 2 + 1);
        for (size_t i = 0; i < usable; i += usable / 97 + 1) CHECK(p[i] == 0xa1);
        CHECK(p[usable - 1] == 0xa1);
        free(p);
        CHECK(q[0] == 0xb2 && q[malloc_usable_size(q) - 1] == 0xb2);
        free(q);
    }
}

static void deny(const int *calls, int count, int error) {
    struct sock_filter filter[64];
    int n = 0;
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                               offsetof(struct seccomp_data, nr));
    for (int i = 0; i < count; i++) {
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], 0, 1);
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K,
                                                   SECCOMP_RET_ERRNO | (uint32_t)error);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {(unsigned short)n, filter};
    CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}
static void *churn_thread(void *seed) {
    churn_some((uint64_t)(uintptr_t)seed, 8000);
    return NULL;
}
// What a sandbox may forbid; an allocator can do without.
static void calls_that_a_sandbox_forbids(void) {
    static const int calls[] = {SYS_madvise, SYS_mremap, SYS_membarrier,
                                SYS_sched_getaffinity, SYS_getcpu, SYS_prctl, SYS_mbind,
                                SYS_get_mempolicy, SYS_sysinfo, SYS_openat, SYS_open};
    deny(calls, sizeof calls / sizeof *calls, case_argument ? (int)case_argument : EPERM);
    for (int round = 0; round < 4; round++) {
        pthread_t thread[3];
        for (long i = 0; i < 3; i++)
            CHECK(pthread_create(&thread[i], NULL, churn_thread, (void *)(i + 1)) == 0);
        for (int i = 0; i < 3; i++) pthread_join(thread[i], NULL);
        char *p = malloc(2 << 20);
        memset(p, 7, 2 << 20);
        p = realloc(p, 60 << 20);
        CHECK(p && p[0] == 7 && p[(2 << 20) - 1] == 7);
        free(p);
        malloc_trim(0);
        p = calloc(1, 5 << 20);
        for (int i = 0; i < 5 << 20; i += 4096) CHECK(p[i] == 0);
        free(p);
    }
}

// Memory runs out, is given back, and there is some again.
static void little_address_space(void) {
    enum { COUNT = 100000 };
    static void *block[COUNT];
    for (int round = 0; round < 3; round++) {
        int count = 0;
        errno = 0;
        while (count < COUNT && (block[count] = malloc(50000))) count++;
        CHECK(count == COUNT || errno == ENOMEM);
        CHECK(count > 100);
        for (int i = 0; i < count; i++) free(block[i]);
        churn_some((uint64_t)round, 3000);
    }
}

// Two allocators in one process: a plugin that binds to libc's own.
static void deepbind(void) {
    find_plugin();
    void *plugin = dlopen(plugin_path, RTLD_NOW | RTLD_DEEPBIND);
    CHECK(plugin);
    void *(*block)(size_t) = (void *(*)(size_t))dlsym(plugin, "plugin_block");
    void (*release)(void *) = (void (*)(void *))dlsym(plugin, "plugin_free");
    for (size_t bytes = 1; bytes < 300000; bytes = bytes * 3 + 1) {
        release(block(bytes));
        // Theirs, given to us: it stays where it is.
        free(block(bytes));
    }
    CHECK(dlclose(plugin) == 0);
    churn_some(5, 3000);
}

static void environment_is_read_without_allocating(void) {
    // A program may have no environment, or one that it built itself.
    environ = NULL;
    churn_some(6, 1000);
    CHECK(setenv("NAME", "value", 1) == 0 && strcmp(getenv("NAME"), "value") == 0);
}

int main(int argc, char **argv) {
    static const case_t cases[] = {
        {"partial_symbol_set", partial_symbol_set},
        {"doubles_of_libc", doubles_of_libc},
        {"foreign_pointers", foreign_pointers},
        {"wrong_size_at_delete", wrong_size_at_delete},
        {"calloc_inside_dlsym", calloc_inside_dlsym},
        {"calloc_inside_thread_exit_registration", calloc_inside_thread_exit_registration},
        {"tls_of_what_is_loaded_later", tls_of_what_is_loaded_later},
        {"a_second_copy_in_a_namespace", a_second_copy_in_a_namespace},
        {"fragmented_address_space", fragmented_address_space},
        {"no_mappings_left", no_mappings_left},
        {"early_and_late_calls", early_and_late_calls},
        {"frees_after_the_thread_destructor", frees_after_the_thread_destructor},
        {"signal_handlers_that_allocate", signal_handlers_that_allocate},
        {"errno_is_left_alone", errno_is_left_alone},
        {"alignment_that_code_assumes", alignment_that_code_assumes},
        {"usable_bytes_are_the_callers", usable_bytes_are_the_callers},
        {"calls_that_a_sandbox_forbids", calls_that_a_sandbox_forbids},
        {"little_address_space", little_address_space},
        {"deepbind", deepbind},
        {"environment_is_read_without_allocating", environment_is_read_without_allocating},
        {NULL, NULL}};
    return run_case(cases, argc, argv);
}
