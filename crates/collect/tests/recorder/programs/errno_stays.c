/* Every call that succeeds leaves errno as it was. */
#include "counted.h"
#include <errno.h>
#include <pthread.h>

#define KEEPS(call) do { errno = 77; call; require(errno == 77, #call); } while (0)

static void *work(void *unused) {
    (void)unused;
    void *a, *b, *c, *d;
    KEEPS(a = malloc(SIZE(1)));
    KEEPS(b = calloc(1, SIZE(2)));
    KEEPS(a = realloc(a, SIZE(300)));
    KEEPS(c = aligned_alloc(64, SIZE(4)));
    KEEPS(require(posix_memalign(&d, 256, SIZE(5)) == 0, "posix_memalign"));
    KEEPS(free(a));
    KEEPS(free(b));
    KEEPS(free(c));
    KEEPS(free(d));
    KEEPS(a = malloc(SIZE(1 << 16)));
    KEEPS(free(a));
    for (int i = 0; i < 200000; i++) {
        KEEPS(a = malloc(SIZE(i % 20)));
        KEEPS(free(a));
    }
    return NULL;
}

int main(void) {
    pthread_t thread;
    work(NULL);
    require(pthread_create(&thread, NULL, work, NULL) == 0, "thread");
    pthread_join(thread, NULL);
    require(dprintf(1, "kept\n") == 5, "print");
    return 0;
}
