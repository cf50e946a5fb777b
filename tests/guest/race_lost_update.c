// Two vCPUs add to a counter without a lock, a few hundred instructions apart. An update is lost when turns change
// between a load and its store.
#include "second_cpu.h"

enum { ROUNDS = 2000, WORK = 100 };
static volatile u64 counter;
static volatile int up, go, done;

static void add(void) {
  for (int i = 0; i < ROUNDS; i++) {
    for (volatile int work = 0; work < WORK; work++) continue;
    const u64 value = counter;
    asm volatile("nop; nop; nop");
    counter = value + 1;
  }
}
void ap_main(void) {
  up = 1;
  while (!go) pause();
  add();
  done = 1;
  for (;;) asm volatile("cli; hlt");
}
int main(void) {
  start_second_cpu();
  while (!up) pause();
  go = 1;
  add();
  while (!done) pause();
  if (counter != 2 * ROUNDS) put_string("lost update\n");
  EXPECT_EQ(counter, 2 * ROUNDS);
  return 0;
}
