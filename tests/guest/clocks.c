// The clocks agree with each other: TSC, APIC timer, PIT, ACPI PM timer, RTC. Ratios are checked where CPUID
// 15h names the frequencies (this machine; QEMU's TCG lacks it); monotony everywhere.
#include "apic.h"

#define PM_TIMER 0x608  // as on QEMU's i440FX after firmware, and on this machine

static u64 tsc_hz, crystal_hz;

static u64 scaled(u64 ticks, u64 hz) { return ticks * 1000000 / hz; }  // microseconds
// Within 1 % or 50 us.
static void near(u64 actual, u64 expected, const char* what) {
  u64 slack = expected / 100 + 50, d = actual > expected ? actual - expected : expected - actual;
  if (d > slack && tsc_hz) expect_equal(actual, expected, what, "clocks.c", __LINE__);
}

static void rtc_hook(struct Context* f) {
  (void)f;
  (void)cmos_read(0x0c);
  outb(0xa0, 0x20);
  outb(0x20, 0x20);
}

int main(void) {
  u32 r[4];
  cpuid(0, 0, r);
  if (r[0] >= 0x15) {
    cpuid(0x15, 0, r);
    if (r[0] && r[1] && r[2]) {
      crystal_hz = r[2];
      tsc_hz = (u64)r[2] * r[1] / r[0];
      cpuid(0x16, 0, r);
      EXPECT_EQ(r[0] & 0xffff, tsc_hz / 1000000);
    }
  }
  pic_init();
  LAPIC(LAPIC_SVR) = 0x1ff;

  SUBJECT("monotony");
  u64 t = rdtsc();
  for (int i = 0; i < 10000; i++) {
    u64 now = rdtsc();
    if (now <= t) {
      EXPECT(now > t);
      break;
    }
    t = now;
  }
  u32 p = inl(PM_TIMER) & 0xffffff;
  for (int i = 0; i < 1000; i++) {
    u32 now = inl(PM_TIMER) & 0xffffff;
    if (now < p && p - now < 0x800000) {
      EXPECT(now >= p);
      break;
    }
    p = now;
  }

  SUBJECT("10 ms by every clock");
  LAPIC(LAPIC_DIVIDE) = 0xb;
  LAPIC(LAPIC_LVT_TIMER) = 0x10000;
  outb(0x61, (inb(0x61) & ~3) | 1);
  outb(0x43, 0xb0);
  outb(0x42, 11932 & 0xff);
  LAPIC(LAPIC_INITIAL) = 0xffffffff;
  u32 pm = inl(PM_TIMER);
  outb(0x42, 11932 >> 8);
  u64 start = rdtsc();
  while (!(inb(0x61) & 0x20)) pause();
  u64 tsc = rdtsc() - start;
  u32 apic = 0xffffffff - LAPIC(LAPIC_CURRENT);
  pm = (inl(PM_TIMER) - pm) & 0xffffff;
  put_string("tsc ");
  put_decimal(tsc);
  put_string(" apic ");
  put_decimal(apic);
  put_string(" pm ");
  put_decimal(pm);
  put_string("\n");
  EXPECT(tsc > 0 && pm > 0 && apic > 0);
  if (tsc_hz) {
    near(scaled(tsc, tsc_hz), 10000, "TSC");
    near(scaled(apic, crystal_hz), 10000, "APIC timer");
    near(scaled(pm, 3579545), 10000, "PM timer");
  }

  SUBJECT("one second of the RTC");
  // From one update-ended interrupt to the next, halted in between.
  hooks[0x28] = rtc_hook;
  outb(0x21, 0xfb);
  outb(0xa1, 0xfe);
  (void)cmos_read(0x0c);
  cmos_write(0x0b, 0x12);
  sti_hlt_cli();
  start = rdtsc();
  u8 s = cmos_read(0);
  sti_hlt_cli();
  if (tsc_hz) near(scaled(rdtsc() - start, tsc_hz), 1000000, "RTC second");
  EXPECT(cmos_read(0) != s);
  cmos_write(0x0b, 0x02);
  outb(0x21, 0xff);
  outb(0xa1, 0xff);

  SUBJECT("TSC_ADJUST");
  if (cpuid_bit(7, 0, 1, 1)) {
    u64 adjust = rdmsr(0x3b);
    wrmsr(0x3b, adjust + 1000000000000);
    EXPECT(rdtsc() >= 1000000000000);
    wrmsr(0x3b, adjust);
    EXPECT(rdtsc() < 1000000000000 + start);
    wrmsr(0x10, 5000);
    EXPECT(rdtsc() < 1000000000);
    EXPECT(rdmsr(0x3b) != adjust);
  }
  u32 aux, lo, hi;
  if (cpuid_bit(0x80000001, 0, 3, 27)) {
    wrmsr(0xc0000103, 0x1234);
    asm volatile("rdtscp" : "=a"(lo), "=d"(hi), "=c"(aux));
    EXPECT_EQ(aux, 0x1234);
  }
  return 0;
}
