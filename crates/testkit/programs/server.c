/* A server on the Unix socket of argument 1, made after argument 2 milliseconds: each
 * connection sends a number N and gets the sum of N small blocks. SIGTERM ends it with
 * status 0 (with argument 3 `stubborn`, SIGTERM and SIGINT are ignored). */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void leave(int signal) {
    (void)signal;
    _exit(0);
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    int stubborn = argc > 3 && strcmp(argv[3], "stubborn") == 0;
    signal(SIGTERM, stubborn ? SIG_IGN : leave);
    if (stubborn) signal(SIGINT, SIG_IGN);
    usleep((useconds_t)atoi(argv[2]) * 1000);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[1]);
    unlink(argv[1]);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0) return 3;
    if (listen(listener, 16) != 0) return 4;
    for (;;) {
        int client = accept(listener, NULL, NULL);
        if (client < 0) continue;
        int wanted = 0;
        if (read(client, &wanted, sizeof wanted) == sizeof wanted) {
            long sum = 0;
            for (int i = 0; i < wanted; i++) {
                char *block = malloc((size_t)i % 2000 + 8);
                block[0] = (char)i;
                sum += block[0];
                free(block);
            }
            if (write(client, &sum, sizeof sum) != sizeof sum) return 5;
        }
        close(client);
    }
}
