// Two vCPUs: INIT and SIPI, a 16-bit trampoline at 8000h, locked operations, IPIs back and forth.
#include "second_cpu.h"

enum { ROUNDS = 2000 };
static volatile int ap_up, phase, pings, pongs;
static volatile u32 ap_id;
static volatile u64 counter, xadd_counter, spin_sum;
static volatile int lock_word;
static volatile u8 cell16[16] __attribute__((aligned(16)));

static void locked_work(void) {
  for (int i = 0; i < ROUNDS; i++) {
    asm volatile("lock incq %0" : "+m"(counter)::"cc");
    u64 one = 1;
    asm volatile("lock xaddq %0, %1" : "+r"(one), "+m"(xadd_counter)::"cc");
    while (__sync_lock_test_and_set(&lock_word, 1)) pause();
    spin_sum = spin_sum + 3;  // not atomic: the lock protects it
    __sync_lock_release(&lock_word);
    u64 a = *(u64*)cell16, d = *(u64*)(cell16 + 8), ok;
    do {
      asm volatile("lock cmpxchg16b %1; setz %b0"
                   : "=q"(ok), "+m"(cell16), "+a"(a), "+d"(d)
                   : "b"(a + 1), "c"(d + 2)
                   : "cc");
    } while (!(ok & 1));
  }
}
static void ping_hook(struct Context* f) {  // on the AP
  (void)f;
  pings++;
  LAPIC(LAPIC_EOI) = 0;
  LAPIC(LAPIC_ICR_HIGH) = 0;
  LAPIC(LAPIC_ICR) = 0x71 | ICR_ASSERT;
}
static void pong_hook(struct Context* f) {  // on the BSP
  (void)f;
  pongs++;
  LAPIC(LAPIC_EOI) = 0;
}
void ap_main(void) {
  LAPIC(LAPIC_SVR) = 0x1ff;
  ap_id = LAPIC(LAPIC_ID) >> 24;
  EXPECT_EQ(rdmsr(0x1b) & 0x100, 0);  // not the BSP
  ap_up = 1;
  while (phase < 1) pause();
  locked_work();
  ap_up = 2;
  for (;;) sti_hlt_cli();
}
static void spin_until(volatile int* p, int value) {
  for (u64 i = 0; i < 2000000000 && *p < value; i++) pause();
  EXPECT_EQ(*p, value);
  if (*p != value) finish(0);
}

int main(void) {
  prepare_second_cpu();
  hooks[0x70] = ping_hook;
  hooks[0x71] = pong_hook;

  SUBJECT("INIT, SIPI");
  LAPIC(LAPIC_ICR_HIGH) = 1 << 24;
  LAPIC(LAPIC_ICR) = ICR_INIT | ICR_ASSERT;
  for (int i = 0; i < 100000; i++) pause();
  EXPECT_EQ(ap_up, 0);
  LAPIC(LAPIC_ICR) = ICR_SIPI | ICR_ASSERT | 0x08;
  for (int i = 0; i < 10000 && !ap_up; i++) pause();
  if (!ap_up) LAPIC(LAPIC_ICR) = ICR_SIPI | ICR_ASSERT | 0x08;
  spin_until(&ap_up, 1);
  EXPECT_EQ(ap_id, 1);

  SUBJECT("locked operations");
  phase = 1;
  locked_work();
  spin_until(&ap_up, 2);
  EXPECT_EQ(counter, 2 * ROUNDS);
  EXPECT_EQ(xadd_counter, 2 * ROUNDS);
  EXPECT_EQ(spin_sum, 6 * ROUNDS);
  EXPECT_EQ(*(u64*)cell16, 2 * ROUNDS);
  EXPECT_EQ(*(u64*)(cell16 + 8), 4 * ROUNDS);

  SUBJECT("IPIs");
  for (int i = 1; i <= 50; i++) {
    LAPIC(LAPIC_ICR_HIGH) = 1 << 24;
    LAPIC(LAPIC_ICR) = 0x70 | ICR_ASSERT;
    while (pongs < i) sti_hlt_cli();
  }
  EXPECT_EQ(pings, 50);
  // All excluding self.
  LAPIC(LAPIC_ICR) = 0x70 | ICR_ASSERT | 3 << 18;
  while (pongs < 51) sti_hlt_cli();
  EXPECT_EQ(pings, 51);
  return 0;
}
