// libc's memcpy, memmove and memset at many sizes and alignments.
#include <string.h>

#include "workload.h"

enum { kSize = 4 << 20 };

int main() {
  uint8_t* from = allocate(kSize + 4096);
  uint8_t* to = allocate(kSize + 4096);
  uint64_t random = 1234567891011, sum = 0;
  for (size_t i = 0; i < kSize + 4096; i++) from[i] = next_random(&random);
  memset(to, 0, kSize + 4096);
  for (int i = 0; i < 160; i++) {
    memcpy(to + i % 64, from + i * 7 % 64, kSize);
    sum = fold(sum, to[next_random(&random) % kSize]);
  }
  for (int i = 0; i < 3000000; i++) {
    uint64_t r = next_random(&random);
    size_t length = r % 512, here = (r >> 10) % (kSize - 512), there = (r >> 34) % (kSize - 512);
    if (i % 8 == 0) {
      memmove(to + here, to + (here + there % 256) % (kSize - 512), length);
    } else if (i % 8 == 1) {
      memset(to + here, i, length);
    } else {
      memcpy(to + here, from + there, length);
    }
  }
  for (size_t i = 0; i < kSize; i += 61) sum = fold(sum, to[i]);
  print_checksum(sum);
}
