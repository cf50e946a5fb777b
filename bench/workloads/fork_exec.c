// New processes of a dynamically linked program: page tables, page faults, the dynamic loader.
#include <sys/wait.h>
#include <unistd.h>

#include "workload.h"

int main(int argc, char** argv) {
  if (argc == 2) return atoi(argv[1]) * 3 % 251;
  uint64_t sum = 0;
  for (int i = 0; i < 400; i++) {
    pid_t child = fork();
    require(child >= 0, "fork");
    if (child == 0) {
      char number[16];
      snprintf(number, sizeof(number), "%d", i);
      execl(argv[0], argv[0], number, (char*)NULL);
      _exit(255);
    }
    int status;
    require(waitpid(child, &status, 0) == child, "waitpid");
    sum = fold(sum, (uint64_t)WEXITSTATUS(status));
  }
  print_checksum(sum);
}
