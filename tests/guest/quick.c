// Instructions that the engine does a quick way once their pages and targets are at hand: each snippet runs
// several times, cold and warm, and the results must not change; nor where the quick way has to decline.
#include "apic.h"

static struct Context c;
static u64 words[1024] __attribute__((aligned(4096)));
enum { kPasses = 4, IPI = 0x51 };

static volatile word seen_ip, seen_flags;
static volatile int seen;
static void on_ipi(struct Context* f) {
  seen_ip = f->ip;
  seen_flags = f->flags;
  seen++;
  LAPIC(LAPIC_EOI) = 0;
}

CODE(shadow, "mov %edi, (%rsi); sti; .globl shadow_next; shadow_next: nop; .globl shadow_after; shadow_after: nop; nop; cli");
CODE(sti_fault, "sti; .globl sti_ud2; sti_ud2: ud2");
CODE(open_popf, "mov %edi, (%rsi); push %rdx; popfq; .globl popf_next; popf_next: nop; cli");
CODE(flags_round_trip, "push %rdi; popfq; pushfq; pop %rax; push $2; popfq");
CODE(popf_traps, "push %rdi; popfq; nop; .globl popf_trapped; popf_trapped: nop; nop");
CODE(pushf_crossing, "mov %rdi, %rsp; pushfq; mov (%rsp), %rax");
CODE(nested_iret,
     "mov %rsp, %rbx; mov %ss, %eax; push %rax; push %rbx; push %rdi; mov %cs, %eax; push %rax;"
     "lea 1f(%rip), %rax; push %rax; iretq; 1: .globl iret_target; iret_target: nop; pushfq; pop %rax; cli");
CODE(null_ss_iret,
     "mov %rsp, %rbx; mov %ss, %r8d; push $0; push %rbx; pushfq; mov %cs, %rax; push %rax;"
     "lea 1f(%rip), %rax; push %rax; iretq; 1: mov $-1, %rax; mov %ss, %eax; mov %r8d, %ss; nop");
CODE(selectors, "mov $-1, %rax; mov %cs, %eax; mov $-1, %rbx; mov %ss, %bx; mov %ds, %rcx");
CODE(bits, "bts %rdi, (%rsi); setc %al; btr %rdi, (%rsi); setc %ah; btc %edi, (%rsi); setc %bl; bt %rdi, (%rsi); setc %bh");
CODE(exchange, "lock cmpxchg16b (%rsi); setz %r8b");
CODE(move, "rep movsb");
CODE(move_words, "rep movsq");
CODE(fill, "rep stosl");
CODE(move_timed, "rdtsc; mov %eax, %ebx; rep movsq; rdtsc; sub %ebx, %eax");
CODE(move_interrupted, "mov %eax, (%rdx); sti; .globl interrupted_move; interrupted_move: rep movsq; cli");
CODE(vectors, "movq %rdi, %xmm7; cli; mov %cr3, %rax; mov %rax, %cr3; cpuid; movq %xmm7, %rax");
CODE(control_registers, "mov %cr0, %rax; mov %cr3, %rbx; mov %cr4, %r8");
CODE(clock_twice, "rdtsc; mov %eax, %ebx; rdtscp; sub %ebx, %eax");
CODE(user_cli, "cli");
CODE(user_sti, "sti");
CODE(user_stac, "stac");
CODE(user_swapgs, "swapgs");
CODE(user_cr, "mov %cr3, %rax");
CODE(user_iret, "push $0x23; push %rsp; pushfq; push $0x2b; lea 1f(%rip), %rax; push %rax; iretq; 1: mov $7, %ebx");
extern char interrupted_move[], shadow_next[], shadow_after[], sti_ud2[], popf_next[], popf_trapped[], iret_target[];

static int kernel(void* code, u64 di, u64 si) {
  c = kernel_context(code);
  c.di = di;
  c.si = si;
  return run(&c);
}

static void interrupts(void) {
  const u64 icr = (u64)&LAPIC(LAPIC_ICR);
  seen = 0;
  // STI with an interrupt waiting: one more instruction.
  EXPECT_EQ(kernel(shadow, ICR_SELF | IPI, icr), BP);
  EXPECT_EQ(seen, 1);
  EXPECT_EQ(seen_ip, (word)shadow_after);
  // POPF has no such shadow.
  c = kernel_context(open_popf);
  c.di = ICR_SELF | IPI;
  c.si = icr;
  c.dx = FL_IF | 2;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(seen, 2);
  EXPECT_EQ(seen_ip, (word)popf_next);
  EXPECT_EQ(kernel(sti_fault, 0, 0), UD);
  EXPECT_EQ(c.ip, (word)sti_ud2);
  EXPECT_EQ(c.flags & FL_IF, FL_IF);
}

static void flags(void) {
  const u64 kept = FL_CF | FL_ZF | FL_DF | FL_IOPL3 | FL_NT | FL_AC | 1 << 21 | 2;
  EXPECT_EQ(kernel(flags_round_trip, kept | FL_RF | FL_VM, 0), BP);
  EXPECT_EQ(c.ax, kept);
  EXPECT_EQ(kernel(popf_traps, FL_TF | 2, 0), DB);
  EXPECT_EQ(c.ip, (word)popf_trapped);
  EXPECT_EQ(kernel(pushf_crossing, (u64)words + 4096 + 3, 0), BP);
  EXPECT_EQ(c.ax & 2, 2);
}

static void returns(void) {
  EXPECT_EQ(kernel(nested_iret, FL_RF | FL_CF | 2, 0), BP);
  EXPECT_EQ(c.ax, FL_CF | 2);  // RF has gone with the NOP
  EXPECT_EQ(kernel(nested_iret, FL_TF | 2, 0), DB);
  EXPECT_EQ(c.ip, (word)iret_target + 1);
  EXPECT_EQ(kernel(null_ss_iret, 0, 0), BP);
  EXPECT_EQ(c.ax, 0);
  EXPECT_EQ(kernel(selectors, 0, 0), BP);
  EXPECT_EQ(c.ax, KCODE);
  EXPECT_EQ(c.bx, (u64)-1 << 16 | KDATA);
  EXPECT_EQ(c.cx, KDATA);
  c = user_context(user_iret);
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.bx, 7);
}

static void memory(void) {
  memset(words, 0, sizeof words);
  EXPECT_EQ(kernel(bits, (u64)-63, (u64)&words[2]), BP);  // bit 1 of the word before
  EXPECT_EQ(c.ax & 0xffff, 0x0100);
  EXPECT_EQ(c.bx & 0xffff, 0x0100);
  EXPECT_EQ(words[1], 2);
  c = kernel_context(exchange);
  words[4] = 5, words[5] = 6;
  c.si = (u64)&words[4];
  c.ax = 5, c.dx = 6, c.bx = 7, c.cx = 8;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.r8, 1);
  EXPECT_EQ(words[4], 7);
  EXPECT_EQ(words[5], 8);
  c = kernel_context(exchange);
  c.si = (u64)&words[4];
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.r8, 0);
  EXPECT_EQ(c.ax, 7);
  EXPECT_EQ(c.dx, 8);
  c.si += 8;
  c.ip = (word)exchange;
  EXPECT_EQ(run(&c), GP);
}

static void strings(void) {
  u8* b = (u8*)words;
  for (int i = 0; i < 64; i++) b[i] = i;
  c = kernel_context(move);  // each byte is copied before the next is read
  c.si = (u64)b, c.di = (u64)b + 3, c.cx = 20;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(b[3], 0);
  EXPECT_EQ(b[4], 1);
  EXPECT_EQ(b[22], 1);
  EXPECT_EQ(b[23], 23);
  EXPECT_EQ(c.di, (u64)b + 23);
  EXPECT_EQ(c.cx, 0);
  c = kernel_context(move_words);  // across a page
  c.si = (u64)words, c.di = (u64)words + 4096 - 12, c.cx = 3;
  const u64 third = words[2];
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(*(u64*)((u8*)words + 4096 + 4), third);
  EXPECT_EQ(c.si, (u64)&words[3]);
  // To the page's end, the word that crosses it, the rest: a step each.
  c = kernel_context(move_timed);
  c.si = (u64)words, c.di = (u64)words + 4096 - 12, c.cx = 300;
  EXPECT_EQ(run(&c), BP);
  EXPECT_HW_EQ(c.ax, 5);
  EXPECT_EQ(*(u64*)((u8*)words + 4096 + 4), third);
  EXPECT_EQ(c.si, (u64)&words[300]);
  EXPECT_EQ(c.cx, 0);
  // Between two of them is where an interrupt is taken that waits for the end of STI's shadow.
  c = kernel_context(move_interrupted);
  c.si = (u64)words, c.di = (u64)words + 4096 - 12, c.cx = 300;
  c.ax = ICR_SELF | IPI, c.dx = (u64)&LAPIC(LAPIC_ICR);
  seen = 0;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(seen, 1);
  EXPECT_EQ(seen_ip, (word)interrupted_move);
  EXPECT_HW_EQ(seen_flags & FL_RF, FL_RF);
  EXPECT_EQ(c.cx, 0);
  c = kernel_context(fill);
  c.di = (u64)words, c.ax = 0x11223344, c.cx = 1024;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(words[511], 0x1122334411223344);
  EXPECT_EQ(c.di, (u64)&words[512]);
  c = kernel_context(fill);
  c.di = 0x123, c.cx = 0;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.di, 0x123);
  c = kernel_context(fill);
  c.di = (u64)&words[10] + 4, c.ax = 9, c.cx = 2, c.flags |= FL_DF;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(words[10], 0x900000009);
  EXPECT_EQ(c.di, (u64)&words[10] - 4);
}

static void registers(void) {
  EXPECT_EQ(kernel(vectors, 0x123456789abcdef, 0), BP);
  EXPECT_EQ(c.ax, 0x123456789abcdef);
  EXPECT_EQ(kernel(control_registers, 0, 0), BP);
  EXPECT_EQ(c.ax, read_cr0());
  EXPECT_EQ(c.bx, read_cr3());
  EXPECT_EQ(c.r8, read_cr4());
  EXPECT_EQ(kernel(clock_twice, 0, 0), BP);
  EXPECT_HW_EQ(c.ax, 2);  // a step an instruction, a nanosecond a step
}

static void privileges(void) {
  static const struct {
    char* code;
    int vector;
  } cases[] = {{user_cli, GP}, {user_sti, GP}, {user_stac, UD}, {user_swapgs, GP}, {user_cr, GP}};
  for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++) {
    c = user_context(cases[i].code);
    EXPECT_EQ(run(&c), cases[i].vector);
  }
}

void main(void) {
  pic_init();
  LAPIC(LAPIC_SVR) = 0x1ff;
  hooks[IPI] = on_ipi;
  write_cr4(read_cr4() | 1 << 9);  // OSFXSR
  for (int pass = 0; pass < kPasses; pass++) {
    interrupts();
    flags();
    returns();
    memory();
    strings();
    registers();
    privileges();
  }
}
