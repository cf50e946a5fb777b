// Byte stores at regular strides: the sieve of Eratosthenes.
#include <string.h>

#include "workload.h"

enum { kLimit = 4 << 20, kRounds = 12 };

int main() {
  uint8_t* composite = allocate(kLimit);
  uint64_t sum = 0;
  for (int round = 0; round < kRounds; round++) {
    memset(composite, 0, kLimit);
    for (uint32_t i = 2; i * i < kLimit; i++) {
      if (composite[i]) continue;
      for (uint32_t j = i * i; j < kLimit; j += i) composite[j] = 1;
    }
    uint32_t primes = 0;
    for (uint32_t i = 2; i < kLimit; i++) primes += !composite[i];
    sum = fold(sum, primes + round);
  }
  print_checksum(sum);
}
