// What glibc's headers declare and musl's do not, for the tests' programs built with musl: the
// functions are the preloaded object's.
#include <stddef.h>
#include <stdio.h>
struct mallinfo {
    int arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
struct mallinfo2 {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};
struct mallinfo mallinfo(void);
struct mallinfo2 mallinfo2(void);
void *pvalloc(size_t);
int malloc_trim(size_t);
int malloc_info(int, FILE *);
int mallopt(int, int);
void malloc_stats(void);
#define M_ARENA_MAX -8
