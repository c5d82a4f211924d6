/* realloc and reallocarray in their corner cases; the sizes tell which is which. */
#include "counted.h"
#include <errno.h>
#include <stdint.h>

int main(void) {
    void *a = realloc(NULL, SIZE(1));            /* a malloc: 91 */
    a = realloc(a, SIZE(2));                     /* 91 to 155 */
    a = realloc(a, SIZE(2));                     /* to the same size */
    errno = 0;
    require(realloc(a, SIZE_MAX / 2) == NULL && errno == ENOMEM, "no memory");
    require(reallocarray(a, SIZE_MAX / 2, 4) == NULL && errno == ENOMEM, "overflow");
    a = reallocarray(a, 5, 7);                   /* 155 to 35 */
    require(realloc(a, 0) == NULL, "a size of 0 frees");
    void *b = reallocarray(NULL, 9, 3);          /* 27 */
    free(b);
    char *large = malloc(SIZE(4096));            /* by mmap */
    large[SIZE(4096) - 1] = 1;
    void *wall = malloc(SIZE(4096));
    large = realloc(large, SIZE(65536));         /* moved by mremap */
    large = realloc(large, SIZE(3));
    free(large);
    free(wall);
    void *zero = malloc(0);
    require(zero != NULL, "malloc(0)");
    free(zero);
    free(NULL);
    return 0;
}
