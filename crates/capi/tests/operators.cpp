// Every form of operator new and delete, the new handler and bad_alloc.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <new>
#include <string>
#include <thread>
#include <vector>

#define CHECK(condition)                                                                          \
    do {                                                                                          \
        if (!(condition)) {                                                                       \
            std::fprintf(stderr, "line %d: %s\n", __LINE__, #condition);                          \
            std::exit(1);                                                                         \
        }                                                                                         \
    } while (0)

static volatile std::size_t huge = std::numeric_limits<std::ptrdiff_t>::max() - 100;
static int handler_calls = 0;
static void *reserve_block = nullptr;

// Unwinding through operator new has to run this frame's destructors.
struct Counted {
    static int live;
    Counted() { live++; }
    ~Counted() { live--; }
};
int Counted::live = 0;

template <class Call> static void throws(Call call) {
    bool thrown = false;
    try {
        Counted counted;
        call();
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    CHECK(thrown && Counted::live == 0);
}

static void handler() {
    if (++handler_calls == 3) throw std::bad_alloc();
}

int main() {
    const auto align = std::align_val_t(256);
    for (std::size_t size : {0, 1, 100, 5000, 100000}) {
        ::operator delete(::operator new(size));
        ::operator delete(::operator new(size), size);
        ::operator delete(::operator new(size, std::nothrow), std::nothrow);
        ::operator delete[](::operator new[](size));
        ::operator delete[](::operator new[](size), size);
        ::operator delete[](::operator new[](size, std::nothrow), std::nothrow);
        void *p = ::operator new(size, align);
        CHECK(p && reinterpret_cast<std::uintptr_t>(p) % 256 == 0);
        ::operator delete(p, align);
        ::operator delete(::operator new(size, align), size, align);
        ::operator delete(::operator new(size, align, std::nothrow), align, std::nothrow);
        p = ::operator new[](size, align);
        CHECK(p && reinterpret_cast<std::uintptr_t>(p) % 256 == 0);
        ::operator delete[](p, align);
        ::operator delete[](::operator new[](size, align), size, align);
        ::operator delete[](::operator new[](size, align, std::nothrow), align, std::nothrow);
    }
    throws([] { return ::operator new(huge); });
    throws([] { return ::operator new[](huge); });
    throws([] { return ::operator new(huge, std::align_val_t(64)); });
    throws([] { return ::operator new[](huge, std::align_val_t(64)); });
    CHECK(::operator new(huge, std::nothrow) == nullptr);
    CHECK(::operator new[](huge, std::align_val_t(64), std::nothrow) == nullptr);
    std::set_new_handler(handler);
    throws([] { return ::operator new(huge); });
    CHECK(handler_calls == 3);
    // The nothrow forms ask the handler too, and turn what it throws into null.
    handler_calls = 0;
    CHECK(::operator new(huge, std::nothrow) == nullptr && handler_calls == 3);
    handler_calls = 0;
    CHECK(::operator new[](huge, std::nothrow) == nullptr && handler_calls == 3);
    handler_calls = 0;
    CHECK(::operator new(huge, align, std::nothrow) == nullptr && handler_calls == 3);
    std::set_new_handler(nullptr);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++)
        threads.emplace_back([] {
            std::vector<std::string> strings;
            for (int i = 0; i < 20000; i++) strings.push_back(std::string(i % 300, 'x'));
        });
    for (auto &thread : threads) thread.join();
    std::puts("conforms");
}
