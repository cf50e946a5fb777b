// Two vCPUs add to a counter without a lock, a few hundred instructions apart. An update is lost when turns change
// between a load and its store.
#include "side_by_side.h"

enum { ROUNDS = 2000, WORK = 100 };
static volatile u64 counter;

static void add(void) {
  for (int i = 0; i < ROUNDS; i++) {
    for (volatile int work = 0; work < WORK; work++) continue;
    const u64 value = counter;
    asm volatile("nop; nop; nop");
    counter = value + 1;
  }
}
static void on_second_cpu(void) { add(); }
int main(void) {
  run_beside_second_cpu(add);
  if (counter != 2 * ROUNDS) put_string("lost update\n");
  EXPECT_EQ(counter, 2 * ROUNDS);
  return 0;
}
