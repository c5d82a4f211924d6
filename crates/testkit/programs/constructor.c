/* Allocates before any constructor of a library loaded later can have run, and frees after
 * main: preinit, constructor, atexit, destructor. */
#include "counted.h"

static void *early[20];
static void *kept[20];

static void preinit(int argc, char **argv, char **env) {
    (void)argc, (void)argv, (void)env;
    for (int i = 0; i < 10; i++) early[i] = take(SIZE(i));
}
__attribute__((section(".preinit_array"), used)) static void (*preinit_entry)(int, char **, char **) = preinit;

__attribute__((constructor(101))) static void construct(void) {
    for (int i = 10; i < 20; i++) early[i] = take_zeroed(SIZE(i));
}

static void at_exit(void) {
    for (int i = 0; i < 20; i++) give(kept[i]);
}

__attribute__((destructor(101))) static void destruct(void) {
    for (int i = 0; i < 20; i++) give(early[i]);
    give(take(SIZE(50)));
    print_counts();
}

int main(void) {
    atexit(at_exit);
    for (int i = 0; i < 20; i++) kept[i] = take(SIZE(i));
    return 0;
}
