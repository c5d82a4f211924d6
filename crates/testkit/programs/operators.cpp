// operator new and delete in all forms, each twice. Counted as `malloc` and `free`, aligned
// ones as `aligned`; sizes as in counted.h.
#include <cstdio>
#include <cstdlib>
#include <new>
#include <unistd.h>

static unsigned long plain, aligned, freed;
static unsigned long long bytes;

static void *count(void *block, std::size_t size, unsigned long &counter) {
    if (block == nullptr) std::_Exit(99);
    counter++;
    bytes += size;
    return block;
}

int main() {
    const std::size_t size = 5 * 64 + 27;
    const std::align_val_t alignment{64};
    for (int round = 0; round < 2; round++) {
        void *a = count(::operator new(size), size, plain);
        void *b = count(::operator new[](size), size, plain);
        void *c = count(::operator new(size, std::nothrow), size, plain);
        void *d = count(::operator new[](size, std::nothrow), size, plain);
        void *e = count(::operator new(size, alignment), size, aligned);
        void *f = count(::operator new[](size, alignment), size, aligned);
        void *g = count(::operator new(size, alignment, std::nothrow), size, aligned);
        void *h = count(::operator new[](size, alignment, std::nothrow), size, aligned);
        if (round == 0) {
            ::operator delete(a);
            ::operator delete[](b);
            ::operator delete(c, std::nothrow);
            ::operator delete[](d, std::nothrow);
            ::operator delete(e, alignment);
            ::operator delete[](f, alignment);
            ::operator delete(g, alignment, std::nothrow);
            ::operator delete[](h, alignment, std::nothrow);
        } else {
            ::operator delete(a, size);
            ::operator delete[](b, size);
            ::operator delete(c);
            ::operator delete[](d);
            ::operator delete(e, size, alignment);
            ::operator delete[](f, size, alignment);
            ::operator delete(g, alignment);
            ::operator delete[](h, alignment);
        }
        freed += 8;
    }
    char line[256];
    int n = std::snprintf(line, sizeof line,
                          "counts pid=%d malloc=%lu calloc=0 realloc=0 aligned=%lu free=%lu bytes=%llu\n",
                          (int)getpid(), plain, aligned, freed, bytes);
    return write(1, line, (std::size_t)n) == n ? 0 : 98;
}
