// Arithmetic in registers: how far are the longest of the first Collatz chains? Branches that no predictor likes.
#include "workload.h"

int main() {
  uint64_t sum = 0, longest = 0;
  for (uint64_t start = 1; start < 700000; start++) {
    uint64_t n = start, length = 0;
    while (n != 1) {
      n = n & 1 ? 3 * n + 1 : n / 2;
      length++;
    }
    if (length > longest) {
      longest = length;
      sum = fold(sum, start);
    }
    sum += length * (start % 7);
  }
  print_checksum(fold(sum, longest));
}
