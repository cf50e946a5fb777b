// Breakpoint registers, single step, RF, DR6 (SDM vol. 3B chapter 17).
#include "runtime.h"

static struct Context c;
static volatile int hits;
static word ips[64], statuses[64];

// Counts and carries on; DR6 is cleared, RF set so that an instruction breakpoint does not repeat.
static void count_hook(struct Context* f) {
  if (hits < 64) {
    ips[hits] = f->ip;
    statuses[hits] = read_dr6();
  }
  hits++;
  write_dr6(0xffff0ff0);
  f->flags |= FL_RF;
}
static int start(u64 flags) {
  hits = 0;
  write_dr6(0xffff0ff0);
  c.flags |= flags;
  return run(&c);
}

extern char step2[], step3[], bp_here[], after_store[], rep_here[], after_rep[], after_ss[], after_ss2[];
CODE(steps, "mov $1, %eax; .globl step2; step2: mov $2, %ecx; .globl step3; step3: mov $3, %edx");
CODE(bp_code, "xor %eax, %eax; .globl bp_here; bp_here: inc %eax; inc %eax");
CODE(
    store_code,
    "movl $7, (%rdi); .globl after_store; after_store: mov (%rdi), %eax; movb $1, 3(%rdi); movb $1, 4(%rdi)");
CODE(rep_code, ".globl rep_here; rep_here: rep movsb; .globl after_rep; after_rep: nop");
CODE(popf_step,
     "pushfq; orl $0x100, (%rsp); popfq; .globl tf_first; tf_first: nop; .globl tf_second; tf_second: nop; "
     "pushfq; andl $~0x100, (%rsp); popfq; nop; nop");
CODE(ss_step,
     "mov %ss, %eax; mov %eax, %ss; .globl after_ss; after_ss: nop; .globl after_ss2; after_ss2: nop");
CODE(int_step, "int $0x80; .globl after_int; after_int: nop");
CODE(syscall_step, "syscall; .globl after_sc; after_sc: nop");
CODE(syscall_target, "nop; nop; sysretq");
CODE(io_code, "in $0x80, %al; .globl after_io; after_io: nop");
CODE(move_dr, "mov %dr7, %rax");
CODE(branches,
     "nop; test %eax, %eax; jnz 1f; jz 1f; nop; .globl branch_to; branch_to: 1: nop; rep movsb; call 2f; .globl call_to; call_to: 2: pop %rbx; "
     "nop");
CODE(hlt_code, "hlt; .globl after_hlt; after_hlt: nop");
CODE(ss_bp, "mov %ss, %eax; mov %eax, %ss; .globl held_back; held_back: nop; nop");
extern char branch_to[], call_to[], after_hlt[], held_back[];
extern char tf_first[], tf_second[], after_int[], after_sc[], after_io[];

static void nothing(struct Context* f) { (void)f; }

int main(void) {
  hooks[DB] = count_hook;

  SUBJECT("TF");
  c = kernel_context(steps);
  start(FL_TF);
  EXPECT_EQ(hits, 3);
  EXPECT_EQ(ips[0], (word)step2);
  EXPECT_EQ(ips[1], (word)step3);
  EXPECT_EQ(statuses[0] & 0xe00f, 0x4000);  // BS
  c = user_context(steps);
  start(FL_TF);
  EXPECT_EQ(hits, 3);
  c = kernel_context(popf_step);
  start(0);
  EXPECT_EQ(ips[0], (word)tf_second);  // the instruction after POPF is stepped first
  EXPECT_EQ(hits, 5);                  // …up to and including the POPF that clears TF
  c = kernel_context(ss_step);
  start(FL_TF);
  EXPECT_EQ(ips[1], (word)after_ss2);  // MOV SS holds the trap back by one instruction
  EXPECT_EQ(hits, 3);
  hooks[0x80] = nothing;
  c = user_context(int_step);
  start(FL_TF);
  EXPECT_EQ(hits, 1);  // INT n clears TF before the trap; the NOP after IRET is stepped
  EXPECT_EQ(ips[0], (word)after_int + 1 + USER_ALIAS);
  hooks[0x80] = 0;
  wrmsr(0xc0000081, (u64)0x18 << 48 | (u64)KCODE << 32);
  wrmsr(0xc0000082, (u64)syscall_target);
  wrmsr(0xc0000084, FL_TF | FL_IF);
  use_ist(DB, 1);
  c = user_context(syscall_step);
  start(FL_TF);
  EXPECT_HW_EQ(hits, 1 + 1);  // SYSRET restores TF: trap after it and after the NOP
  EXPECT_HW_EQ(ips[hits - 1], (word)after_sc + 1 + USER_ALIAS);
  use_ist(DB, 0);

  c = kernel_context(hlt_code);
  start(FL_TF);
  EXPECT_HW_EQ(hits, 2);  // the trap ends the halt
  EXPECT_HW_EQ(ips[0], (word)after_hlt);

  SUBJECT("BTF");
  static u8 bytes[16];
  c = kernel_context(branches);
  c.si = c.di = (word)bytes;
  c.cx = 3;
  c.ax = 0;
  wrmsr(0x1d9, 2);
  start(FL_TF);
  EXPECT_HW_EQ(ips[0], (word)branch_to);  // the first jump is not taken
  EXPECT_HW_EQ(rdmsr(0x1d9) & 2, 0);      // cleared by the exception: then come NOP, 3 MOVSB, CALL, POP, NOP
  EXPECT_HW_EQ(hits, 1 + 7);
  c = kernel_context(branch_to);
  c.si = c.di = (word)bytes;
  c.cx = 3;
  wrmsr(0x1d9, 2);
  start(FL_TF);
  EXPECT_HW_EQ(ips[0], (word)call_to);  // a CALL of the next instruction
  wrmsr(0x1d9, 0);

  SUBJECT("TF and REP");
  static u8 from[16] = "abcdefgh", to[16];
  c = kernel_context(rep_code);
  c.si = (word)from;
  c.di = (word)to;
  c.cx = 4;
  start(FL_TF);
  EXPECT_EQ(hits, 5);  // after each iteration, and after the NOP
  EXPECT_EQ(ips[0], (word)rep_here);
  EXPECT_EQ(ips[2], (word)rep_here);
  EXPECT_EQ(ips[3], (word)after_rep);

  SUBJECT("instruction breakpoints and RF");
  write_dr0((word)bp_here);
  write_dr7(0x402);  // G0, execute
  c = kernel_context(bp_code);
  start(0);
  EXPECT_EQ(hits, 1);
  EXPECT_EQ(ips[0], (word)bp_here);  // a fault: before
  EXPECT_EQ(statuses[0] & 0xe00f, 1);
  EXPECT_EQ(c.ax, 2);
  c = kernel_context(bp_here);
  start(FL_RF);  // RF from IRET suppresses it once
  EXPECT_EQ(hits, 0);
  for (int i = 1; i <= 3; i++) {
    c = kernel_context(bp_code);
    start(0);
    EXPECT_EQ(hits, 1);
  }
  write_dr0((word)rep_here);
  c = kernel_context(rep_code);
  c.si = (word)from;
  c.di = (word)to;
  c.cx = 4;
  start(0);
  EXPECT_EQ(hits, 1);  // not again at each piece
  write_dr0((word)held_back);
  c = kernel_context(ss_bp);
  start(0);
  EXPECT_HW_EQ(hits, 0);  // MOV SS suppresses it
  write_dr7(0x400);
  c = kernel_context(bp_code);
  start(0);
  EXPECT_EQ(hits, 0);

  SUBJECT("data breakpoints");
  static u32 cell[4] __attribute__((aligned(16)));
  write_dr1((word)cell);
  write_dr7(0x400 | 4 | 0xdul << 20);  // L1: write, 4 bytes
  c = kernel_context(store_code);
  c.di = (word)cell;
  start(0);
  EXPECT_EQ(hits, 2);                    // the store, and the byte inside; not the load nor the byte outside
  EXPECT_EQ(ips[0], (word)after_store);  // a trap: after
  EXPECT_EQ(statuses[0] & 0xf, 2);
  write_dr7(0x400 | 4 | 0xful << 20);  // read or write
  c = kernel_context(store_code);
  c.di = (word)cell;
  start(0);
  EXPECT_EQ(hits, 3);
  write_dr7(0x400 | 4 | 0x1ul << 20);  // one byte, first
  c = kernel_context(store_code);
  c.di = (word)cell - 2;
  start(0);
  EXPECT_EQ(hits, 1);
  // An unaligned access that overlaps the watched bytes.
  write_dr7(0x400 | 4 | 0xdul << 20);
  c = kernel_context(store_code);
  c.di = (word)cell - 3;
  start(0);
  EXPECT_EQ(hits, 3);  // the dword at -3 touches byte 0; the single bytes are bytes 0 and 1
  write_dr1((word)to + 1);
  write_dr7(0x400 | 4 | 0x1ul << 20);
  c = kernel_context(rep_code);
  c.si = (word)from;
  c.di = (word)to;
  c.cx = 4;
  start(0);
  EXPECT_EQ(hits, 1);
  EXPECT_HW_EQ(ips[0], (word)rep_here);  // after the second iteration
  write_dr7(0x400);

  SUBJECT("general detect, I/O breakpoints, aliases");
  write_dr7(0x2400);  // GD: the next access to a debug register faults
  hooks[DB] = 0;
  c = kernel_context(move_dr);
  EXPECT_HW_EQ(run(&c), DB);
  EXPECT_HW_EQ(c.ip, (word)move_dr);
  EXPECT_HW_EQ(c.dr6 & 0x2000, 0x2000);
  EXPECT_HW_EQ(read_dr7() & 0x2000, 0);  // cleared on delivery
  write_dr7(0x400);
  write_dr6(0xffff0ff0);
  write_cr4(read_cr4() | 8);  // DE
  CODE(dr4_code, "mov %db4, %rax");
  c = kernel_context(dr4_code);
  EXPECT_EQ(run(&c), UD);
  hooks[DB] = count_hook;
  write_dr2(0x80);
  write_dr7(0x400 | 0x10 | 2ul << 24);  // L2: I/O, one byte
  c = kernel_context(io_code);
  start(0);
  EXPECT_EQ(hits, 1);
  EXPECT_EQ(ips[0], (word)after_io);
  write_dr7(0x400);
  write_cr4(read_cr4() & ~8ul);
  c = kernel_context(dr4_code);
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, read_dr6());
  c = user_context(move_dr);
  EXPECT_EQ(run(&c), GP);
  return 0;
}
