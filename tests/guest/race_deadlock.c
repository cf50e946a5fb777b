// Two vCPUs take two locks in opposite order, a few hundred instructions apart. When each has its first, neither gets
// its second.
#include "side_by_side.h"

enum { ROUNDS = 2000, WORK = 100, PATIENCE = 100000 };
static volatile int first, second;

static void take(volatile int* lock) {
  for (int i = 0; __sync_lock_test_and_set(lock, 1); i++) {
    if (i == PATIENCE) {
      put_string("deadlock\n");
      failures++;
      finish(0);
    }
    pause();
  }
}
static void work(volatile int* a, volatile int* b) {
  for (int i = 0; i < ROUNDS; i++) {
    for (volatile int work = 0; work < WORK; work++) continue;
    take(a);
    asm volatile("nop; nop; nop");
    take(b);
    __sync_lock_release(b);
    __sync_lock_release(a);
  }
}
static void on_first_cpu(void) { work(&first, &second); }
static void on_second_cpu(void) { work(&second, &first); }
int main(void) {
  run_beside_second_cpu(on_first_cpu);
  return 0;
}
