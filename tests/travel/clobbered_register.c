// A timer's interrupt handler that does not always give a callee-saved register back: the loop that it
// interrupts finds its count to be wrong. clobbered_register.S has the loop and the handler.
#include "apic.h"

extern void tick(void);
extern u64 count_to(u64 limit);
volatile u32 ticks;
volatile u64 wrong_count;

__attribute__((noinline)) void complain(u64 count) {
  wrong_count = count;
  put_string("count is wrong\n");
  failures = 1;
  finish(0);
}

int main(void) {
  LAPIC(LAPIC_SVR) = 0x1ff;
  set_gate(0x40, tick, KCODE, 14, 0, 0);
  LAPIC(LAPIC_DIVIDE) = 0xb;
  LAPIC(LAPIC_LVT_TIMER) = 0x20040;  // periodic
  LAPIC(LAPIC_INITIAL) = 4000;
  sti();
  count_to(100000000);
  cli();
  return 0;
}
