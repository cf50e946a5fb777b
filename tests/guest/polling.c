// Loops that ask devices again and again, and what interrupts them: an access to a device is followed at once by what
// it brings about, however often the vCPU goes on without being looked at.
#include "apic.h"

enum { IPI = 0x51, TIMER = 0x61, ROUNDS = 40, kTscAdjust = 0x3b, kTpr = 0x808, kTscDeadline = 0x6e0 };

static volatile word seen_ip;
static volatile int seen, nmis;
static volatile u64 seen_tsc;
static int x2apic;
static void end_of_interrupt(void) {
  if (x2apic) {
    wrmsr(0x80b, 0);
  } else {
    LAPIC(LAPIC_EOI) = 0;
  }
}
static void on_interrupt(struct Context* f) {
  seen_ip = f->ip;
  seen_tsc = rdtsc();
  seen++;
  end_of_interrupt();
}
static void on_nmi(struct Context* f) {
  seen_ip = f->ip;
  nmis++;
}

// Each ends its wait in its own way, with interrupts enabled and one waiting; it comes at `after_…`.
#define WAY(name, lowers) \
  CODE(name, lowers "; .globl after_" #name "; after_" #name ": nop; nop"); \
  extern char after_##name[]
WAY(by_cr8, "mov %rdi, %cr8");
WAY(by_mmio, "movl $0, (%rsi)");
WAY(by_msr, "mov $0x808, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr");
WAY(in_shadow, "cli; mov %rdi, %cr8; sti; in $0x61, %al");
WAY(nop_in_shadow, "cli; mov %rdi, %cr8; sti; nop");
WAY(msr_in_shadow, "cli; mov %rdi, %cr8; mov $0x808, %ecx; sti; rdmsr");
// Nothing of this lets it through; the last instruction does.
WAY(polls, "1: in $0x61, %al; mov %cr8, %rbx; out %al, $0x80; pause; dec %edx; jnz 1b; mov %rdi, %cr8");
CODE(nmi, "mov %edi, (%rsi); .globl after_nmi; after_nmi: nop; nop");
CODE(stepped, "in $0x61, %al; .globl after_stepped; after_stepped: nop");
CODE(adjust, "mov $0x3b, %ecx; mov %edi, %eax; xor %edx, %edx; wrmsr; .globl after_adjust; after_adjust: nop; nop");
extern char after_nmi[], after_stepped[], after_adjust[];

static void send(void) {
  if (x2apic) {
    wrmsr(0x83f, IPI);
  } else {
    self_ipi(IPI);
  }
}

static void lowers(void* code, char* after) {
  for (int i = 0; i < ROUNDS; ++i) {
    struct Context c = kernel_context(code);
    write_cr8(15);
    send();
    seen = 0;
    seen_ip = 0;
    c.flags |= FL_IF;
    c.dx = 20;
    c.si = (u64)&LAPIC(LAPIC_TPR);
    EXPECT_EQ(run(&c), BP);
    EXPECT_EQ(seen, 1);
    EXPECT_EQ(seen_ip, (word)after);
    EXPECT_EQ(read_cr8(), 0);
  }
}

static void single_steps_and_nmis(void) {
  SUBJECT("single steps and NMIs");
  for (int i = 0; i < ROUNDS; ++i) {
    struct Context c = kernel_context(stepped);
    c.flags |= FL_TF;
    EXPECT_EQ(run(&c), DB);
    EXPECT_EQ(c.ip, (word)after_stepped);
    c = kernel_context(nmi);
    c.di = ICR_SELF | ICR_NMI;
    c.si = (u64)&LAPIC(LAPIC_ICR);
    nmis = 0;
    EXPECT_EQ(run(&c), BP);
    EXPECT_EQ(nmis, 1);
    EXPECT_EQ(seen_ip, (word)after_nmi);
  }
}

// A loop around one access is left at the very step at which the TSC reaches the deadline: from there to where the TSC is
// read again is always the same way.
static u64 way;
#define UNTIL_DEADLINE(access)                         \
  for (u64 wait = 500; wait < 520; ++wait) {           \
    seen = 0;                                          \
    const u64 deadline = rdtsc() + wait;               \
    wrmsr(kTscDeadline, deadline);                     \
    sti();                                             \
    while (!seen) { access; }                          \
    cli();                                             \
    if (!way) way = seen_tsc - deadline;               \
    EXPECT_EQ(seen_tsc - deadline, way);               \
    EXPECT_EQ(rdmsr(kTscDeadline), 0);                 \
  }

static void deadlines(void) {
  SUBJECT("deadlines while polling");
  UNTIL_DEADLINE(;);
  EXPECT(way < 100);
  UNTIL_DEADLINE(inb(0x61));
  UNTIL_DEADLINE(rdmsr(kTscDeadline));
  UNTIL_DEADLINE(rdmsr(kTpr));
  UNTIL_DEADLINE(write_cr8(0));
  UNTIL_DEADLINE(outb(0x80, 0));
  UNTIL_DEADLINE(pause());
  for (int i = 0; i < ROUNDS; ++i) {
    wrmsr(kTscAdjust, 0);
    seen = 0;
    wrmsr(kTscDeadline, rdtsc() + 1000000);
    struct Context c = kernel_context(adjust);
    c.flags |= FL_IF;
    c.di = 2000000;
    EXPECT_EQ(run(&c), BP);
    EXPECT_EQ(seen, 1);
    EXPECT_EQ(seen_ip, (word)after_adjust);
  }
  for (u64 i = 1; i < ROUNDS; ++i) {
    const u64 before = rdtsc();
    wrmsr(kTscAdjust, 10000000 * i);
    const u64 after = rdtsc();
    EXPECT(after - before > (i == 1 ? 7000000 : 9000000) && after - before < 11000000);
  }
  wrmsr(kTscAdjust, 0);
}

int main(void) {
  pic_init();
  LAPIC(LAPIC_SVR) = 0x1ff;
  hooks[IPI] = hooks[TIMER] = on_interrupt;
  hooks[NMI] = on_nmi;
  SUBJECT("an interrupt that is let through");
  lowers(by_cr8, after_by_cr8);
  lowers(by_mmio, after_by_mmio);
  lowers(in_shadow, after_in_shadow);
  lowers(nop_in_shadow, after_nop_in_shadow);
  lowers(polls, after_polls);
  single_steps_and_nmis();
  LAPIC(LAPIC_LVT_TIMER) = 2 << 17 | TIMER;
  x2apic = 1;
  wrmsr(0x1b, rdmsr(0x1b) | 1 << 10);
  SUBJECT("the same in x2APIC mode");
  lowers(by_cr8, after_by_cr8);
  lowers(by_msr, after_by_msr);
  lowers(msr_in_shadow, after_msr_in_shadow);
  lowers(polls, after_polls);
  deadlines();
  return 0;
}
