// Cases for hardened mode, by number; each has an error, and without `bad` does the same rightly.
// Prints "fine" when nobody stopped it.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <malloc.h>
#include <new>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static bool bad;
static void *volatile kept;

static char *block(size_t bytes) {
    char *start = static_cast<char *>(malloc(bytes));
    if (!start) exit(9);
    kept = start;
    return start;
}

// What is written differs from what was there: one value in so many is the canary's own.
static void write_at(char *place) {
    volatile char *byte = place;
    *byte = static_cast<char>(~*byte);
}

static void *churn(void *argument) {
    unsigned state = static_cast<unsigned>(reinterpret_cast<long>(argument));
    char *blocks[300] = {};
    for (int i = 0; i < 20000; i++) {
        state = state * 1103515245u + 12345;
        char *&place = blocks[(state >> 8) % 300];
        free(place);
        size_t bytes = (state >> 12) % (i % 500 ? 3000 : 70000);
        place = static_cast<char *>(malloc(bytes));
        if (!place) exit(9);
        memset(place, 1, bytes);
    }
    for (char *one : blocks) free(one);
    return nullptr;
}

static void *take_wide(void *) { return block(40000); }

int main(int argc, char **argv) {
    int number = atoi(argv[1]);
    bad = argc > 2 && !strcmp(argv[2], "bad");
    switch (number) {
    case 1: { // double free
        char *p = block(24);
        free(p);
        if (bad) free(p);
        break;
    }
    case 2: { // double free of a large block
        char *p = block(200000);
        free(p);
        if (bad) free(p);
        break;
    }
    case 3: { // the end of a string right behind the block
        char *p = block(10);
        memset(p, 'A', 10);
        *const_cast<volatile char *>(p + (bad ? 10 : 9)) = 0;
        free(p);
        break;
    }
    case 4: { // in the last page of a large block
        char *p = block(100000);
        write_at(p + (bad ? 100000 : 99999));
        free(p);
        break;
    }
    case 5: { // found by realloc
        char *p = block(40);
        write_at(p + (bad ? 40 : 39));
        kept = realloc(p, 400);
        break;
    }
    case 6: // a write after the free, found at the slot's reuse
    case 21: // and in a block of which only the first bytes are looked at
    case 22: // and in the last bytes of one that is looked at whole
    case 27: { // and behind the first bytes, when all is looked at
        size_t bytes = number == 21 ? 1000 : number == 27 ? 200 : 136;
        size_t at = number == 21 ? 63 : number == 22 ? 135 : 72;
        char *p = block(bytes);
        if (!bad) write_at(p + at);
        free(p);
        if (bad) write_at(p + at);
        for (int i = 0; i < 500; i++) free(block(bytes));
        break;
    }
    case 23: { // large blocks that follow each other share their pages, not their addresses
        struct rusage before, after;
        getrusage(RUSAGE_SELF, &before);
        for (int i = 0; i < 100; i++) {
            char *p = block(1 << 20);
            for (int k = 0; k < 256; k++)
                if (const_cast<volatile char *>(p)[k]) exit(7);
            memset(p, 'S', 1 << 20);
            free(p);
            char *q = static_cast<char *>(calloc(1, 1 << 20));
            for (int k = 0; k < 1 << 20; k += 512)
                if (!q || q[k]) exit(8);
            kept = q;
            free(q);
        }
        getrusage(RUSAGE_SELF, &after);
        // Those of `calloc` are made anew; what is written and given back is not.
        if (after.ru_minflt - before.ru_minflt > 100 * 256 + 2000) exit(6);
        break;
    }
    case 24: { // a large block is out of reach when it is free, while others use its pages
        char *p = block(1 << 20);
        memset(p, 'S', 1 << 20);
        if (bad) free(p);
        for (int i = 0; i < 3; i++) memset(block(1 << 20), 1, 1 << 20);
        write_at(p + (1 << 19));
        break;
    }
    case 25: { // a write after the free behind what is looked at, unless all is
        char *p = block(1000);
        free(p);
        if (bad) write_at(p + 900);
        for (int i = 0; i < 500; i++) free(block(1000));
        break;
    }
    case 26: // nothing of the last block is left in the next one, when all is zeroed
        for (int i = 0; i < 200; i++) {
            size_t bytes = i % 2 ? 1 << 20 : 3000;
            char *p = block(bytes);
            for (size_t k = 0; k < bytes; k += 8)
                if (const_cast<volatile char *>(p)[k]) exit(7);
            memset(p, 'S', bytes);
            free(p);
        }
        break;
    case 7: { // free inside a block
        char *p = block(100);
        free(bad ? p + 16 : p);
        break;
    }
    case 8: { // free of what is no block
        static char global[64];
        free(bad ? global : block(64));
        break;
    }
    case 9: { // operator new, free
        int *p = new int;
        if (bad) free(p); else delete p;
        break;
    }
    case 10: { // operator new[], delete
        char *p = new char[30];
        if (bad) operator delete(p); else operator delete[](p);
        break;
    }
    case 11: { // a wrong size
        void *p = operator new(48);
        operator delete(p, static_cast<size_t>(bad ? 40 : 48));
        break;
    }
    case 12: { // size of a freed block
        char *p = block(60);
        if (!bad && malloc_usable_size(p) != 60) exit(8);
        free(p);
        if (bad && malloc_usable_size(p) == 60) exit(8);
        break;
    }
    case 13: { // over the end of a span, wherever the block is
        char *p = block(20000);
        uintptr_t end = reinterpret_cast<uintptr_t>(p) | 0x3FFFF;
        if (bad) write_at(reinterpret_cast<char *>(end)); else write_at(p + 19999);
        break;
    }
    case 14: { // right behind a large block of whole pages
        char *p = block(1 << 17);
        write_at(p + (bad ? 1 << 17 : 0));
        break;
    }
    case 15: { // before a block: what it hits is looked at when the program ends
        char *p = block(100);
        write_at(bad ? p - 8 : p);
        break;
    }
    case 16: { // reuse at once: never
        for (size_t bytes : {size_t(32), size_t(300), size_t(5000), size_t(150000)}) {
            char *p = block(bytes);
            free(p);
            for (int i = 0; i < 30; i++)
                if (block(bytes) == p) exit(7);
        }
        break;
    }
    case 17: { // what was in a block is gone
        char *p = block(128);
        memset(p, 'S', 128);
        free(p);
        for (int i = 0; i < 128; i++)
            if (const_cast<volatile char *>(p)[i]) exit(7);
        break;
    }
    case 18: { // two slots in a row are no neighbours in memory, as a rule
        int rising = 0;
        char *before = block(64);
        for (int i = 0; i < 200; i++) {
            char *next = block(64);
            rising += next == before + 80;
            before = next;
        }
        if (rising > 100) exit(7);
        break;
    }
    case 19: { // the program goes on, and gets good blocks
        char *p = block(24), *q = block(24);
        write_at(p + 24);
        free(p);
        free(q);
        free(q);
        for (int i = 0; i < 300; i++) {
            char *r = block(24);
            if (r == p) exit(7);
            memset(r, 1, 24);
            free(r);
        }
        break;
    }
    case 20: { // threads, and forks in the middle of their work
        pthread_t threads[3];
        for (long i = 0; i < 3; i++) pthread_create(&threads[i], nullptr, churn, (void *)(i + 1));
        for (int i = 0; i < 10; i++) {
            pid_t child = fork();
            if (child == 0) {
                churn(reinterpret_cast<void *>(9L));
                _exit(0);
            }
            int status = 0;
            if (waitpid(child, &status, 0) != child || status) exit(7);
        }
        for (pthread_t thread : threads) pthread_join(thread, nullptr);
        break;
    }
    case 28: { // wide slots wait for one free, and are no thread's then
        char *p = block(40000), *q = block(40000);
        free(p);
        if (block(40000) == p) exit(7);
        free(q);
        pthread_t thread;
        void *taken = nullptr;
        pthread_create(&thread, nullptr, take_wide, nullptr);
        pthread_join(thread, &taken);
        if (taken != p) exit(7);
        break;
    }
    default:
        return 9;
    }
    puts("fine");
    return 0;
}
