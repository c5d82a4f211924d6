/* One block in sixteen outlives its burst; then a line of standard input for each step:
 * "profile" raises SIGUSR2, "fork" forks a child that allocates and waits for its end, the end of
 * the input ends the program. Prints "ready" and "done" in between. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { COUNT = 100000, BYTES = 200 };

static char *requests[COUNT];
static char *sessions[COUNT];

__attribute__((noinline)) static char *open_session(void) {
  char *block = malloc(BYTES);
  memset(block, 1, BYTES);
  return block;
}

__attribute__((noinline)) static char *take_request(void) {
  char *block = malloc(BYTES);
  memset(block, 2, BYTES);
  return block;
}

static void burst(void) {
  unsigned state = 1;
  for (int i = 0; i < COUNT; i++) {
    requests[i] = take_request();
    state = state * 1103515245u + 12345u;
    if ((state >> 16) % 16 == 0) sessions[i] = open_session();
  }
  for (int i = 0; i < COUNT; i++) free(requests[i]);
}

int main(void) {
  char line[64];
  burst();
  puts("ready");
  fflush(stdout);
  while (fgets(line, sizeof line, stdin)) {
    if (!strcmp(line, "profile\n")) {
      raise(SIGUSR2);
    } else if (!strcmp(line, "fork\n")) {
      pid_t child = fork();
      if (child == 0) {
        burst();
        exit(0);
      }
      waitpid(child, NULL, 0);
    }
    /* A slow path for whoever waits for one. */
    for (int i = 0; i < 1000; i++) requests[i] = take_request();
    for (int i = 0; i < 1000; i++) free(requests[i]);
    puts("done");
    fflush(stdout);
  }
  return 0;
}
