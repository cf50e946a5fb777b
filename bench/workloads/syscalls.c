// Into the kernel and back, the shortest way.
#include <sys/syscall.h>
#include <unistd.h>

#include "workload.h"

int main() {
  uint64_t sum = 0;
  for (int i = 0; i < 2000000; i++) sum += (syscall(SYS_getppid) > 0) + (uint64_t)i % 3;
  print_checksum(sum);
}
