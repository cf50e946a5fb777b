// 8259, IOAPIC, local APIC and its timer, PIT, RTC; interrupt shadows, priorities, NMI, HLT
// (SDM vol. 3A chapters 6 and 11; 8254, 8259A, MC146818 and 82093AA data sheets).
#include "apic.h"

static volatile int count[256], order[64], events;
static volatile word seen_ip;
enum { T = 0x40 };  // vector of the APIC timer; 0x5x and 0x6x are self-IPIs

static void note(struct Context* f) {
  count[f->vector]++;
  seen_ip = f->ip;
  if (events < 64) order[events++] = f->vector;
}
static void apic_hook(struct Context* f) {
  note(f);
  LAPIC(LAPIC_EOI) = 0;
}
static void pic_hook(struct Context* f) {
  note(f);
  if (f->vector >= 0x28) outb(0xa0, 0x20);
  outb(0x20, 0x20);
}
static void clear(void) {
  events = 0;
  for (int i = 0; i < 256; i++) count[i] = 0;
}

static void pic_and_pit(void) {
  SUBJECT("8259 and PIT");
  clear();
  for (int v = 0x20; v < 0x30; v++) hooks[v] = pic_hook;
  pic_init();
  LAPIC(LAPIC_LVT_LINT0) = 0x700;  // ExtINT: the 8259's INTR goes through
  EXPECT_EQ(inb(0x21), 0xff);
  outb(0x21, 0xfe);
  pit_start(2, 11932);  // 10 ms
  for (int i = 0; i < 5; i++) sti_hlt_cli();
  EXPECT_EQ(count[0x20], 5);
  outb(0x21, 0xff);
  pit_start(0, 1193);  // one-shot, 1 ms; held pending in IRR while masked
  outb(0x20, 0x0a);
  for (int i = 0; i < 10000000 && !(inb(0x20) & 1); i++) pause();
  EXPECT_EQ(inb(0x20) & 1, 1);
  window();
  EXPECT_EQ(count[0x20], 5);
  outb(0x21, 0xfe);
  window();
  EXPECT_EQ(count[0x20], 6);
  outb(0x20, 0x0b);
  EXPECT_EQ(inb(0x20), 0);  // ISR empty after EOI
  outb(0x21, 0xff);
  // Channel 2 behind the gate of port 61h: output goes high at terminal count.
  outb(0x61, (inb(0x61) & ~3) | 1);
  outb(0x43, 0xb0);
  outb(0x42, 0xff);
  outb(0x42, 0x10);
  EXPECT_EQ(inb(0x61) & 0x20, 0);
  for (int i = 0; i < 10000000 && !(inb(0x61) & 0x20); i++) pause();
  EXPECT_EQ(inb(0x61) & 0x20, 0x20);
  // Read-back: status of channel 0 is the mode just written.
  pit_start(2, 0x1234);
  outb(0x43, 0xe2);
  EXPECT_EQ(inb(0x40) & 0x3f, 0x34);
  outb(0x43, 0x00);  // counter latch
  int latch = inb(0x40);
  latch |= inb(0x40) << 8;
  EXPECT(latch <= 0x1234);
}

static void rtc(void) {
  SUBJECT("RTC");
  clear();
  // Periodic, 1024 Hz, IRQ 8 through both 8259s.
  cmos_write(0x0a, 0x26);
  outb(0x21, 0xfb);
  outb(0xa1, 0xfe);
  // Flags are set whether enabled or not; an old one would interrupt at once (data sheet, "interrupts").
  (void)cmos_read(0x0c);
  cmos_write(0x0b, 0x42);
  for (int i = 0; i < 8; i++) {
    sti_hlt_cli();
    EXPECT_EQ(cmos_read(0x0c) & 0xc0, 0xc0);  // reading C re-arms
  }
  EXPECT_EQ(count[0x28], 8);
  EXPECT_EQ(cmos_read(0x0d) & 0x80, 0x80);
  // Update-ended once a second; UIP is clear right after, and the seconds advanced.
  u8 before = cmos_read(0);
  (void)cmos_read(0x0c);
  cmos_write(0x0b, 0x12);
  sti_hlt_cli();
  EXPECT_EQ(cmos_read(0x0c) & 0x90, 0x90);
  EXPECT_EQ(cmos_read(0x0a) & 0x80, 0);
  EXPECT(cmos_read(0) != before);
  cmos_write(0x0b, 0x02);
  outb(0x21, 0xff);
  outb(0xa1, 0xff);
  // CMOS bytes hold what is written.
  u8 old = cmos_read(0x33);
  cmos_write(0x33, 0x5a);
  EXPECT_EQ(cmos_read(0x33), 0x5a);
  cmos_write(0x33, old);
}

static void ioapic(void) {
  SUBJECT("IOAPIC");
  clear();
  hooks[0x31] = apic_hook;
  EXPECT_EQ(ioapic_read(1) >> 16 & 0xff, 23);
  LAPIC(LAPIC_LVT_LINT0) = 0x10000;
  ioapic_write(0x11 + 2 * 2, LAPIC(LAPIC_ID));
  ioapic_write(0x10 + 2 * 2, 0x31);  // the PIT is on pin 2, edge
  pit_start(2, 11932);
  for (int i = 0; i < 3; i++) sti_hlt_cli();
  EXPECT_EQ(count[0x31], 3);
  ioapic_write(0x10 + 2 * 2, 0x10031);
  EXPECT_EQ(ioapic_read(0x10 + 2 * 2) & 0x1ffff, 0x10031);
  pit_start(0, 1);
  window();
  // The UART's interrupt on pin 4: transmitter empty, level by level.
  hooks[0x34] = apic_hook;
  ioapic_write(0x11 + 2 * 4, LAPIC(LAPIC_ID));
  ioapic_write(0x10 + 2 * 4, 0x34);
  outb(0x3fc, 0x0b);
  clear();
  outb(0x3f9, 2);
  window();
  EXPECT_EQ(count[0x34], 1);
  EXPECT_EQ(inb(0x3fa) & 0xf, 2);  // IIR: THR empty; reading clears it
  EXPECT_EQ(inb(0x3fa) & 0xf, 1);
  outb(0x3f9, 0);
  ioapic_write(0x10 + 2 * 4, 0x10000);
}

CODE(sti_shadow, "sti; nop; .globl sti_second; sti_second: nop; cli");
CODE(sti_cli, "sti; cli; nop");
CODE(mov_ss_shadow,
     "mov %ss, %ecx; mov %ecx, %ss; .globl ss_next; ss_next: nop; .globl ss_second; ss_second: nop");
CODE(popf_window, "push %rdi; popfq; .globl after_popf; after_popf: nop; cli");
extern char sti_second[], ss_next[], ss_second[], after_popf[];

static void local_apic(void) {
  SUBJECT("local APIC: IPIs, shadows, priorities");
  for (int v = 0x50; v < 0x90; v++) hooks[v] = apic_hook;
  clear();
  self_ipi(0x51);
  EXPECT_EQ(lapic_bit(LAPIC_IRR, 0x51), 1);
  window();
  EXPECT_EQ(count[0x51], 1);
  EXPECT_EQ(lapic_bit(LAPIC_IRR, 0x51) | lapic_bit(LAPIC_ISR, 0x51), 0);

  // STI takes effect after the next instruction.
  struct Context c = kernel_context(sti_shadow);
  self_ipi(0x52);
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(count[0x52], 1);
  EXPECT_EQ(seen_ip, (word)sti_second);
  c = kernel_context(sti_cli);
  self_ipi(0x52);
  run(&c);
  EXPECT_EQ(count[0x52], 1);  // no window at all
  c = kernel_context(popf_window);
  c.di = 2 | FL_IF;
  run(&c);
  EXPECT_EQ(count[0x52], 2);
  EXPECT_EQ(seen_ip, (word)after_popf);  // POPF has no shadow
  // IRET to IF = 1 has none either.
  c = kernel_context(mov_ss_shadow);
  self_ipi(0x53);
  c.flags |= FL_IF;
  run(&c);
  EXPECT_EQ(count[0x53], 1);
  EXPECT_EQ(seen_ip, (word)mov_ss_shadow);
  // MOV CR8 that lowers the priority: the interrupt comes right after it, not in the middle of MOV SS.
  extern char cr8_next[], cr8_ss_second[];
  CODE(cr8_code, "mov %rdi, %cr8; .globl cr8_next; cr8_next: nop");
  write_cr8(15);
  self_ipi(0x54);
  c = kernel_context(cr8_code);
  c.flags |= FL_IF;
  EXPECT_EQ(LAPIC(LAPIC_TPR), 0xf0);
  run(&c);
  EXPECT_EQ(count[0x54], 1);
  EXPECT_EQ(seen_ip, (word)cr8_next);
  CODE(send_in_shadow,
       "mov %ss, %ecx; mov $0x40055, %eax; mov %ecx, %ss; mov %eax, (%rdi); .globl cr8_ss_second; "
       "cr8_ss_second: nop");
  c = kernel_context(send_in_shadow);
  c.di = 0xfee00000 + LAPIC_ICR;
  c.flags |= FL_IF;
  run(&c);
  EXPECT_EQ(count[0x55], 1);
  EXPECT_EQ(seen_ip, (word)cr8_ss_second);

  // Higher vectors first; a class at or below TPR waits.
  clear();
  self_ipi(0x61);
  self_ipi(0x72);
  self_ipi(0x63);
  self_ipi(0x85);
  window();
  EXPECT_EQ(events, 4);
  EXPECT_EQ(order[0], 0x85);
  EXPECT_EQ(order[1], 0x72);
  EXPECT_EQ(order[2], 0x63);
  EXPECT_EQ(order[3], 0x61);
  clear();
  write_cr8(7);
  EXPECT_EQ(read_cr8(), 7);
  self_ipi(0x72);
  self_ipi(0x81);
  window();
  EXPECT_EQ(events, 1);
  EXPECT_EQ(order[0], 0x81);
  write_cr8(6);
  window();
  EXPECT_EQ(events, 2);
  write_cr8(0);
}

static volatile int depth, deepest;
static void nested_hook(struct Context* f) {
  note(f);
  if (++depth > deepest) deepest = depth;
  if (f->vector == 0x61) {
    EXPECT_EQ(LAPIC(LAPIC_PPR) & 0xf0, 0x60);
    self_ipi(0x62);  // same class: waits for the EOI
    self_ipi(0x71);  // higher class: nests
    window();
    EXPECT_EQ(count[0x62], 0);
    EXPECT_EQ(count[0x71], 1);
  }
  depth--;
  LAPIC(LAPIC_EOI) = 0;
}

static void nesting(void) {
  SUBJECT("nesting");
  clear();
  hooks[0x61] = hooks[0x62] = hooks[0x71] = nested_hook;
  self_ipi(0x61);
  window();
  EXPECT_EQ(events, 3);
  EXPECT_EQ(order[2], 0x62);
  EXPECT_EQ(deepest, 2);
}

static volatile int nmi_blocked_ok;
// To itself by APIC ID: the self shorthand is for fixed interrupts only (SDM vol. 3A table 11-3).
static void send_nmi(void) {
  LAPIC(LAPIC_ICR_HIGH) = LAPIC(LAPIC_ID);
  LAPIC(LAPIC_ICR) = ICR_NMI | ICR_ASSERT;
}
static void nmi_hook(struct Context* f) {
  note(f);
  if (count[NMI] == 1) {
    send_nmi();  // latched until IRET
    for (int i = 0; i < 1000; i++) pause();
    nmi_blocked_ok = count[NMI] == 1;
  }
}

static void nmi(void) {
  SUBJECT("NMI");
  clear();
  hooks[NMI] = nmi_hook;
  send_nmi();  // with IF = 0
  for (int i = 0; i < 1000 && count[NMI] < 2; i++) pause();
  EXPECT_EQ(count[NMI], 2);
  EXPECT(nmi_blocked_ok);
}

static void apic_timer(void) {
  SUBJECT("APIC timer: one-shot, periodic, TSC-deadline");
  hooks[T] = apic_hook;
  clear();
  LAPIC(LAPIC_DIVIDE) = 0xb;  // by 1
  LAPIC(LAPIC_LVT_TIMER) = T;
  LAPIC(LAPIC_INITIAL) = 200000;
  u32 a = LAPIC(LAPIC_CURRENT), b = LAPIC(LAPIC_CURRENT);
  EXPECT(a <= 200000 && b <= a);
  sti_hlt_cli();
  EXPECT_EQ(count[T], 1);
  EXPECT_EQ(LAPIC(LAPIC_CURRENT), 0);
  LAPIC(LAPIC_INITIAL) = 1000;
  sti_hlt_cli();
  EXPECT_EQ(count[T], 2);
  LAPIC(LAPIC_INITIAL) = 10000000;
  LAPIC(LAPIC_INITIAL) = 0;  // stops it
  EXPECT_EQ(LAPIC(LAPIC_CURRENT), 0);

  LAPIC(LAPIC_LVT_TIMER) = T | 1 << 17;
  LAPIC(LAPIC_INITIAL) = 300000;
  for (int i = 0; i < 4; i++) sti_hlt_cli();
  EXPECT_EQ(count[T], 6);
  LAPIC(LAPIC_LVT_TIMER) = T | 1 << 17 | 1 << 16;  // masked, still counting
  EXPECT(LAPIC(LAPIC_CURRENT) <= 300000);
  LAPIC(LAPIC_INITIAL) = 0;
  window();
  EXPECT_EQ(count[T], 6);

  if (!cpuid_bit(1, 0, 2, 24)) {
    put_string("no TSC-deadline\n");
    return;
  }
  LAPIC(LAPIC_LVT_TIMER) = T | 2 << 17;
  asm volatile("mfence");
  clear();
  for (int i = 1; i <= 3; i++) {
    u64 deadline = rdtsc() + 500000;
    wrmsr(0x6e0, deadline);
    EXPECT_EQ(rdmsr(0x6e0), deadline);
    sti_hlt_cli();
    EXPECT_EQ(count[T], i);
    EXPECT(rdtsc() >= deadline);
    EXPECT_EQ(rdmsr(0x6e0), 0);
  }
  wrmsr(0x6e0, 1);  // in the past: at once
  window();
  EXPECT_EQ(count[T], 4);
  wrmsr(0x6e0, rdtsc() + 100000000000);
  wrmsr(0x6e0, 0);
  EXPECT_EQ(rdmsr(0x6e0), 0);
  LAPIC(LAPIC_LVT_TIMER) = 1 << 16;
}

static void x2apic(void) {
  if (!cpuid_bit(1, 0, 2, 21)) {
    put_string("no x2APIC\n");
    return;
  }
  SUBJECT("x2APIC");
  u64 base = rdmsr(0x1b);
  EXPECT_EQ(base & 0xfffff000, 0xfee00000);
  EXPECT_EQ(base & 0x900, 0x900);  // enabled, BSP
  wrmsr(0x1b, base | 0x400);
  clear();
  hooks[0x59] = 0;
  EXPECT_EQ(rdmsr(0x802), 0);
  hooks[0x58] = note;
  wrmsr(0x83f, 0x58);  // SELF IPI
  window();
  EXPECT_EQ(count[0x58], 1);
  EXPECT_EQ(rdmsr(0x810 + 0x58 / 32) >> (0x58 % 32) & 1, 1);
  wrmsr(0x80b, 0);
  EXPECT_EQ(rdmsr(0x810 + 0x58 / 32), 0);
  wrmsr(0x808, 0x50);
  EXPECT_EQ(read_cr8(), 5);
  wrmsr(0x808, 0);
}

int main(void) {
  LAPIC(LAPIC_SVR) = 0x1ff;
  pic_and_pit();
  rtc();
  ioapic();
  local_apic();
  nesting();
  nmi();
  apic_timer();
  x2apic();
  return 0;
}
