// The PC's interrupt controllers as the tests program them.
#pragma once
#include "runtime.h"

#define LAPIC(offset) (*(volatile u32*)(0xfee00000ul + (offset)))
enum {
  LAPIC_ID = 0x20,
  LAPIC_TPR = 0x80,
  LAPIC_PPR = 0xa0,
  LAPIC_EOI = 0xb0,
  LAPIC_SVR = 0xf0,
  LAPIC_ISR = 0x100,
  LAPIC_IRR = 0x200,
  LAPIC_ICR = 0x300,
  LAPIC_ICR_HIGH = 0x310,
  LAPIC_LVT_TIMER = 0x320,
  LAPIC_LVT_LINT0 = 0x350,
  LAPIC_INITIAL = 0x380,
  LAPIC_CURRENT = 0x390,
  LAPIC_DIVIDE = 0x3e0,
};
enum { ICR_SELF = 1 << 18, ICR_ASSERT = 1 << 14, ICR_NMI = 4 << 8, ICR_INIT = 5 << 8, ICR_SIPI = 6 << 8 };

static inline void self_ipi(u32 bits) { LAPIC(LAPIC_ICR) = ICR_SELF | bits; }
static inline int lapic_bit(int base, int vector) {
  return LAPIC(base + vector / 32 * 16) >> vector % 32 & 1;
}
static inline u32 ioapic_read(int reg) {
  *(volatile u32*)0xfec00000ul = reg;
  return *(volatile u32*)0xfec00010ul;
}
static inline void ioapic_write(int reg, u32 value) {
  *(volatile u32*)0xfec00000ul = reg;
  *(volatile u32*)0xfec00010ul = value;
}
// Both 8259s: vectors 0x20 and 0x28, everything masked.
static inline void pic_init(void) {
  outb(0x20, 0x11);
  outb(0xa0, 0x11);
  outb(0x21, 0x20);
  outb(0xa1, 0x28);
  outb(0x21, 4);
  outb(0xa1, 2);
  outb(0x21, 1);
  outb(0xa1, 1);
  outb(0x21, 0xff);
  outb(0xa1, 0xff);
}
static inline void pit_start(int mode, u16 count) {
  outb(0x43, 0x30 | mode << 1);
  outb(0x40, count);
  outb(0x40, count >> 8);
}
static inline u8 cmos_read(u8 reg) {
  outb(0x70, reg);
  return inb(0x71);
}
static inline void cmos_write(u8 reg, u8 value) {
  outb(0x70, reg);
  outb(0x71, value);
}
