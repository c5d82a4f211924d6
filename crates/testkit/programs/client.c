/* Argument 2 requests of argument 3 blocks each to the server on the socket of argument 1. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int main(int argc, char **argv) {
    if (argc < 4) return 2;
    int blocks = atoi(argv[3]);
    long total = 0;
    for (int i = 0; i < atoi(argv[2]); i++) {
        int connection = socket(AF_UNIX, SOCK_STREAM, 0);
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        snprintf(address.sun_path, sizeof address.sun_path, "%s", argv[1]);
        if (connect(connection, (struct sockaddr *)&address, sizeof address) != 0) {
            perror("connect");
            return 3;
        }
        long sum = 0;
        if (write(connection, &blocks, sizeof blocks) != sizeof blocks) return 4;
        if (read(connection, &sum, sizeof sum) != sizeof sum) return 5;
        total += sum;
        close(connection);
    }
    printf("total %ld\n", total);
    return 0;
}
