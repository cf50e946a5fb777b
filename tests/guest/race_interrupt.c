// One vCPU, and a timer's handler that adds to the same counter as the code it interrupts. The timer is set so that it
// comes when the code has long finished, unless the vCPU stands still on the way.
#include "apic.h"

enum { ROUNDS = 20000, TICKS = 40, PERIOD = 40000 };
static volatile u64 counter;
static volatile int ticks;

static void tick(struct Context* f) {
  (void)f;
  counter = counter + 1;
  LAPIC(LAPIC_EOI) = 0;
  if (++ticks < TICKS) LAPIC(LAPIC_INITIAL) = PERIOD;
}
int main(void) {
  pic_init();
  LAPIC(LAPIC_SVR) = 0x1ff;
  LAPIC(LAPIC_DIVIDE) = 0xb;
  LAPIC(LAPIC_LVT_TIMER) = 0x40;
  hooks[0x40] = tick;
  LAPIC(LAPIC_INITIAL) = PERIOD;
  asm volatile("sti");
  for (int i = 0; i < ROUNDS; i++) {
    const u64 value = counter;
    asm volatile("nop; nop; nop");
    counter = value + 1;
  }
  while (ticks < TICKS) sti_hlt_cli();
  if (counter != ROUNDS + TICKS) put_string("lost update\n");
  EXPECT_EQ(counter, ROUNDS + TICKS);
  return 0;
}
