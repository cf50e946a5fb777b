// Map, touch every page, protect, touch again, unmap.
#include <sys/mman.h>

#include "workload.h"

enum { kPages = 2048, kPageSize = 4096, kRounds = 80 };

int main() {
  uint64_t sum = 0;
  for (int round = 0; round < kRounds; round++) {
    uint8_t* memory = mmap(NULL, kPages * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(memory != MAP_FAILED, "mmap");
    require(madvise(memory, kPages * kPageSize, MADV_NOHUGEPAGE) == 0, "madvise");
    for (int page = 0; page < kPages; page++) memory[page * kPageSize + round] += (uint8_t)page;
    require(mprotect(memory, kPages * kPageSize, PROT_READ) == 0, "mprotect");
    for (int page = 0; page < kPages; page++) sum += memory[page * kPageSize + round];
    require(munmap(memory, kPages * kPageSize) == 0, "munmap");
  }
  print_checksum(fold(sum, kRounds));
}
