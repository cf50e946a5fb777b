// The alarm of the real-time clock as ACPI's fixed event, by which an operating system that sleeps is woken
// (ACPI 6.5, 4.8.2.4): RTC_STS in PM1a_STS, and the SCI where RTC_EN asks for it.
#include "apic.h"

enum { PM1_STS = 0x600, PM1_EN = 0x602, PM1_CNT = 0x604, RTC_BIT = 1 << 10, WAK_STS = 1 << 15, SCI = 0x29 };
static volatile int scis;

static void sci_hook(struct Context* f) {
  (void)f;
  scis++;
  outw(PM1_EN, 0);  // a level: it stays until somebody has seen to it
  outb(0xa0, 0x20);
  outb(0x20, 0x20);
}

static u8 bcd(int value) { return value / 10 << 4 | value % 10; }
static int seconds_now(void) { return (cmos_read(0) >> 4) * 10 + (cmos_read(0) & 15); }

static void set_alarm(int seconds) {
  cmos_write(5, 0xff), cmos_write(3, 0xff);  // any hour, any minute
  cmos_write(1, bcd((seconds_now() + seconds) % 60));
  cmos_read(0x0c);
  cmos_write(0x0b, 0x22);
}

int main(void) {
  hooks[SCI] = sci_hook;
  pic_init();
  LAPIC(LAPIC_LVT_LINT0) = 0x700;  // ExtINT
  outb(0x4d1, 1 << 1);             // IRQ 9 is level-triggered
  outb(0x21, ~(1 << 2)), outb(0xa1, ~(1 << 1));
  outw(PM1_STS, RTC_BIT);

  SUBJECT("the alarm wakes");
  const int before = seconds_now();
  set_alarm(1);
  outw(PM1_EN, RTC_BIT);
  sti_hlt_cli();
  EXPECT_EQ(scis, 1);
  EXPECT_EQ((seconds_now() - before + 60) % 60, 1);
  EXPECT_EQ(inw(PM1_STS) & RTC_BIT, RTC_BIT);
  EXPECT_EQ(cmos_read(0x0c) & 0xa0, 0xa0);
  outw(PM1_STS, RTC_BIT);
  EXPECT_EQ(inw(PM1_STS) & RTC_BIT, 0);
  outw(PM1_EN, RTC_BIT);
  window();
  EXPECT_EQ(scis, 1);

  SUBJECT("a status from before it was enabled");
  outw(PM1_EN, 0);
  outb(0xa1, ~(1 << 0));  // wake by IRQ 8 instead
  hooks[0x28] = sci_hook;
  window();  // takes the edge of the first alarm, which the 8259 has kept
  set_alarm(1);
  scis = 1;
  sti_hlt_cli();
  EXPECT_EQ(scis, 2);
  EXPECT_EQ(inw(PM1_STS) & RTC_BIT, RTC_BIT);
  outb(0xa1, ~(1 << 1));
  outw(PM1_EN, RTC_BIT);
  window();
  EXPECT_EQ(scis, 3);
  cmos_read(0x0c);
  outw(PM1_STS, RTC_BIT);

  SUBJECT("sleep states that there are not");
  outw(PM1_CNT, 1 << 10 | 1 << 13);  // the machine is awake at once, and says so
  EXPECT_EQ(inw(PM1_STS) & WAK_STS, WAK_STS);
  return 0;
}
