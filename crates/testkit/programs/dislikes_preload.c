/* Ends badly when LD_PRELOAD holds argument 1: `crash` it, print another output (`differ`) or
 * hang (`hang`), as argument 2 says. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int main(int argc, char **argv) {
    const char *preload = getenv("LD_PRELOAD");
    int meant = argc > 2 && preload != NULL && strstr(preload, argv[1]) != NULL;
    if (meant && strcmp(argv[2], "crash") == 0) raise(SIGSEGV);
    if (meant && strcmp(argv[2], "hang") == 0) pause();
    puts(meant ? "something else" : "the usual");
    return 0;
}
