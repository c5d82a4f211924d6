/* Ends with the status of argument 1, after printing argument 2 if there is one; `status
 * signal N` ends by signal N. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    if (argc > 2 && strcmp(argv[1], "signal") == 0) {
        raise(atoi(argv[2]));
        return 1;
    }
    if (argc > 2) puts(argv[2]);
    return argc > 1 ? atoi(argv[1]) : 0;
}
