// Two processes and a token between them: two context switches a round.
#include <sys/wait.h>
#include <unistd.h>

#include "workload.h"

enum { kRounds = 40000 };

int main() {
  int there[2], back[2];
  require(pipe(there) == 0 && pipe(back) == 0, "pipe");
  pid_t child = fork();
  require(child >= 0, "fork");
  uint64_t token = 1;
  if (child == 0) {
    close(there[1]);
    while (read(there[0], &token, sizeof(token)) == sizeof(token)) {
      token = fold(token, 1);
      require(write(back[1], &token, sizeof(token)) == sizeof(token), "write");
    }
    _exit(0);
  }
  for (int i = 0; i < kRounds; i++) {
    token = fold(token, 2);
    require(write(there[1], &token, sizeof(token)) == sizeof(token), "write");
    require(read(back[0], &token, sizeof(token)) == sizeof(token), "read");
  }
  close(there[1]);
  require(waitpid(child, NULL, 0) == child, "waitpid");
  print_checksum(token);
}
