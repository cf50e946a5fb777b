// One dependent load after another, over 32 MiB in random order: the TLB, real and emulated.
#include "workload.h"

enum { kNodes = 32 << 20 >> 6 };

struct Node {
  struct Node* next;
  uint64_t value;
  uint64_t padding[6];  // one cache line
};

int main() {
  struct Node* nodes = allocate(sizeof(struct Node) * kNodes);
  uint32_t* order = allocate(sizeof(uint32_t) * kNodes);
  uint64_t random = 88172645463325252;
  for (uint32_t i = 0; i < kNodes; i++) order[i] = i;
  for (uint32_t i = kNodes - 1; i > 0; i--) {
    uint32_t j = next_random(&random) % (i + 1), swap = order[i];
    order[i] = order[j];
    order[j] = swap;
  }
  for (uint32_t i = 0; i < kNodes; i++) {
    nodes[order[i]].next = &nodes[order[(i + 1) % kNodes]];
    nodes[order[i]].value = next_random(&random);
  }
  uint64_t sum = 0;
  const struct Node* node = nodes;
  for (int step = 0; step < 3 * kNodes; step++) {
    sum = sum * 31 + node->value;
    node = node->next;
  }
  print_checksum(sum);
}
