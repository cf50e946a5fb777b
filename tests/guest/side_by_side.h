// Runs two functions at the same time, one on each of two vCPUs.
#pragma once
#include "second_cpu.h"

static volatile int second_is_up, both_may_go, second_is_done;
static void on_second_cpu(void);

void ap_main(void) {
  second_is_up = 1;
  while (!both_may_go) pause();
  on_second_cpu();
  second_is_done = 1;
  for (;;) asm volatile("cli; hlt");
}
// Returns when both have.
static inline void run_beside_second_cpu(void (*on_first_cpu)(void)) {
  start_second_cpu();
  while (!second_is_up) pause();
  both_may_go = 1;
  on_first_cpu();
  while (!second_is_done) pause();
}
