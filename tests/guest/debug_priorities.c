// Which debug exceptions come, are merged or are lost after MOV SS and POP SS, and with INT1, INT n, faults
// and general detect (SDM vol. 3A 6.8.3 and table 6-2, vol. 3B chapter 17; Linux's selftest mov_ss_trap tells
// what processors do): a data breakpoint of MOV SS waits for the end of the next instruction, is then taken,
// at the first instruction of a handler if that instruction entered one, and is lost if it faulted or was
// INT1. A single-step trap of MOV SS is lost.
#include "runtime.h"

enum { DR6_NONE = 0xffff0ff0, B0 = 1, B1 = 2, BD = 1 << 13, BS = 1 << 14, GD = 1 << 13 };
enum { WATCH_READS = 0x402 | 0x7 << 16, WATCH_CODE_1 = 0x8 };  // G0: two bytes, read or write; G1: execute
enum { MOST_EVENTS = 16 };

static struct Context c;
static u16 stack_selector[2] __attribute__((aligned(8)));  // the one for DR0 is the first

// What arrived at handlers, in order.
static struct Event {
  int vector;
  word ip, status;
  int kernel;
} events[MOST_EVENTS];
static int event_count;

static void note(struct Context* f) {
  if (event_count < MOST_EVENTS)
    events[event_count] =
        (struct Event){f->vector, f->ip, f->vector == DB ? read_dr6() : DR6_NONE, !(f->cs & 3)};
  event_count++;
  if (f->vector == DB) write_dr6(DR6_NONE);
}
// The instruction at fault is left behind.
static int fault_bytes;
static void note_fault(struct Context* f) {
  note(f);
  f->ip += fault_bytes;
}

// The pieces of code end with int3, which no hook takes: run() returns. RSI points to the selector, RDI to
// nothing.
#define AFTER(name) "\n.globl " #name "\n" #name ": "
CODE(ss_nop, "mov (%rsi), %ss; nop;" AFTER(ss_nop_1) "nop;" AFTER(ss_nop_2) "nop");
CODE(ss_ss, "mov (%rsi), %ss; mov (%rsi), %ss; nop;" AFTER(ss_ss_1) "nop");
CODE(ss_icebp, "mov (%rsi), %ss; .byte 0xf1;" AFTER(ss_icebp_1) "nop;" AFTER(ss_icebp_2) "nop");
CODE(ss_two_icebp,
     "mov (%rsi), %ss; .byte 0xf1;" AFTER(ss_two_icebp_1) ".byte 0xf1;" AFTER(ss_two_icebp_2) "nop");
CODE(ss_int80, "mov (%rsi), %ss; int $0x80;" AFTER(ss_int80_1) "nop;" AFTER(ss_int80_2) "nop");
CODE(ss_int1, "mov (%rsi), %ss; int $1;" AFTER(ss_int1_1) "nop");
CODE(ss_int4, "mov (%rsi), %ss; int $4;" AFTER(ss_int4_1) "nop");
CODE(ss_ud, "mov (%rsi), %ss;" AFTER(ss_ud_1) "ud2; nop");
CODE(ss_page_fault, "mov (%rsi), %ss;" AFTER(ss_page_fault_1) "mov (%rdi), %al; nop");
CODE(ss_syscall, "mov (%rsi), %ss; syscall;" AFTER(ss_syscall_1) "nop");
CODE(ss_read_dr, "mov (%rsi), %ss;" AFTER(ss_read_dr_0) "mov %dr6, %rax;" AFTER(ss_read_dr_1) "nop");
CODE(ss_hlt, "mov (%rsi), %ss; hlt;" AFTER(ss_hlt_1) "nop");
CODE(ss_stos,
     "lea ss_stos_bytes(%rip), %rdi; mov $3, %ecx; mov (%rsi), %ss;" AFTER(ss_stos_1) "rep stosb;" AFTER(
         ss_stos_2) "nop; .globl ss_stos_bytes; int3; ss_stos_bytes: .skip 3");
CODE(read_icebp, "mov (%rsi), %ax;" AFTER(read_icebp_0) ".byte 0xf1;" AFTER(read_icebp_1) "nop");
CODE(icebp_alone, ".byte 0xf1;" AFTER(icebp_alone_1) "nop");
CODE(read_dr, "mov %dr6, %rax;" AFTER(read_dr_1) "nop");
CODE(syscall_entry, "nop; sysretq");

static void begin(void) {
  event_count = 0;
  write_dr6(DR6_NONE);
}
static void finish_run(int vector) {
  write_dr7(0x400);
  EXPECT_EQ(vector, BP);
}
// Runs `code` in ring 0 or 3 with EFLAGS `flags` and DR7 `dr7`.
static void start(void* code, int user, word flags, word dr7) {
  c = user ? user_context(code) : kernel_context(code);
  stack_selector[0] = stack_selector[1] = c.ss;
  c.si = (word)stack_selector + (user ? USER_ALIAS : 0);
  c.di = 0xdead0000000;
  c.flags |= flags;
  write_dr0(c.si);
  begin();
  write_dr7(dr7);
  finish_run(run(&c));
}

static void expect_event(int line, int i, int vector, char* ip, word status) {
  expect_equal(i < event_count, 1, "events come", __FILE__, line);
  if (i >= event_count) return;
  expect_equal(events[i].vector, vector, "vector", __FILE__, line);
  const word alias = !events[i].kernel ? USER_ALIAS : 0;
  if (ip) expect_equal(events[i].ip - alias, (word)ip, "address", __FILE__, line);
  expect_equal(events[i].status, status, "DR6", __FILE__, line);
}
#define EXPECT_EVENT(i, vector, ip, bits) expect_event(__LINE__, i, vector, ip, DR6_NONE | (bits))
#define EXPECT_EVENTS(n) EXPECT_EQ(event_count, n)

extern char ss_nop_1[], ss_nop_2[], ss_ss_1[], ss_icebp_1[], ss_icebp_2[], ss_two_icebp_1[], ss_two_icebp_2[],
    ss_int80_1[], ss_int80_2[], ss_int1_1[], ss_int4_1[], ss_ud_1[], ss_page_fault_1[], ss_syscall_1[],
    ss_read_dr_0[], ss_read_dr_1[], ss_hlt_1[], ss_stos_1[], read_icebp_0[], read_icebp_1[], icebp_alone_1[],
    read_dr_1[], trap_stubs[];
static char* stub(int vector) { return trap_stubs + 16 * vector; }

// After single steps up to the NOPs at the end of a piece: `left` more steps, one after each.
static void expect_steps(int line, int from, int left, char* first) {
  for (int i = 0; i < left; i++) expect_event(line, from + i, DB, first + i, DR6_NONE | BS);
  expect_equal(event_count, from + left, "events", __FILE__, line);
}
#define EXPECT_STEPS(from, left, first) expect_steps(__LINE__, from, left, first)

static void test_icebp(int user) {
  SUBJECT("INT1");
  start(icebp_alone, user, 0, 0x400);
  EXPECT_EVENTS(1);
  EXPECT_EVENT(0, DB, icebp_alone_1, 0);
  // With single step: INT1 clears TF before its own trap, and IRET brings it back.
  start(icebp_alone, user, FL_TF, 0x400);
  EXPECT_EVENT(0, DB, icebp_alone_1, 0);
  EXPECT_STEPS(1, 1, icebp_alone_1 + 1);
  // A watchpoint that is not held back comes first.
  start(read_icebp, user, 0, WATCH_READS);
  EXPECT_EVENTS(2);
  EXPECT_EVENT(0, DB, read_icebp_0, B0);
  EXPECT_EVENT(1, DB, read_icebp_1, 0);
  start(read_icebp, user, FL_TF, WATCH_READS);
  EXPECT_EVENT(0, DB, read_icebp_0, B0 | BS);
  EXPECT_EVENT(1, DB, read_icebp_1, 0);
  EXPECT_STEPS(2, 1, read_icebp_1 + 1);
  // After MOV SS it is INT1's that comes, alone.
  start(ss_icebp, user, 0, WATCH_READS);
  EXPECT_EVENTS(1);
  EXPECT_EVENT(0, DB, ss_icebp_1, 0);
  start(ss_icebp, user, FL_TF, 0x400);
  EXPECT_EVENT(0, DB, ss_icebp_1, 0);
  EXPECT_STEPS(1, 2, ss_icebp_2);
  start(ss_icebp, user, FL_TF, WATCH_READS);
  EXPECT_EVENT(0, DB, ss_icebp_1, 0);
  EXPECT_STEPS(1, 2, ss_icebp_2);
  start(ss_two_icebp, user, FL_TF, WATCH_READS);
  EXPECT_EVENT(0, DB, ss_two_icebp_1, 0);
  EXPECT_EVENT(1, DB, ss_two_icebp_2, 0);
  EXPECT_STEPS(2, 1, ss_two_icebp_2 + 1);
}

static void test_next_instruction(int user) {
  SUBJECT("MOV SS and an instruction that stays");
  start(ss_nop, user, 0, WATCH_READS);
  EXPECT_EVENTS(1);
  EXPECT_EVENT(0, DB, ss_nop_1, B0);
  start(ss_nop, user, FL_TF, 0x400);
  EXPECT_STEPS(0, 3, ss_nop_1);
  start(ss_nop, user, FL_TF, WATCH_READS);
  EXPECT_EVENT(0, DB, ss_nop_1, B0 | BS);
  EXPECT_STEPS(1, 2, ss_nop_2);
  start(ss_ss, user, FL_TF, WATCH_READS);
  EXPECT_EVENT(0, DB, ss_ss_1, B0 | BS);
  EXPECT_STEPS(1, 1, ss_ss_1 + 1);
  // An instruction breakpoint at the instruction held back is suppressed, one at the next comes after the
  // trap.
  write_dr1((word)ss_nop + 2 + (user ? USER_ALIAS : 0));
  start(ss_nop, user, 0, WATCH_READS | WATCH_CODE_1);
  EXPECT_EVENTS(1);
  EXPECT_EVENT(0, DB, ss_nop_1, B0);
  // REP: after the first iteration.
  start(ss_stos, user, 0, WATCH_READS);
  EXPECT_EVENTS(1);
  EXPECT_EVENT(0, DB, ss_stos_1, B0);
  EXPECT_EQ(c.cx, 0);
}

static void test_entries(int user) {
  SUBJECT("MOV SS and an instruction that enters a handler");
  // The watchpoint's trap comes at the handler's first instruction, after its own event was set up.
  start(ss_int80, user, 0, WATCH_READS);
  EXPECT_EVENTS(2);
  EXPECT_EVENT(0, DB, stub(0x80), B0);
  EXPECT(events[0].kernel);
  EXPECT_EVENT(1, 0x80, ss_int80_1, 0);
  // No single-step trap is left over for the handler.
  start(ss_int80, user, FL_TF, 0x400);
  EXPECT_EVENT(0, 0x80, ss_int80_1, 0);
  EXPECT_STEPS(1, 2, ss_int80_2);
  start(ss_int80, user, FL_TF, WATCH_READS);
  EXPECT_EVENT(0, DB, stub(0x80), B0);
  EXPECT_EVENT(1, 0x80, ss_int80_1, 0);
  EXPECT_STEPS(2, 2, ss_int80_2);
  start(ss_int4, user, 0, WATCH_READS);
  EXPECT_EVENTS(2);
  EXPECT_EVENT(0, DB, stub(OF), B0);
  EXPECT_EVENT(1, OF, ss_int4_1, 0);
  // INT 1 is no INT1: two exceptions.
  set_gate_dpl(DB, 3);
  start(ss_int1, user, 0, WATCH_READS);
  set_gate_dpl(DB, 0);
  EXPECT_EVENTS(2);
  EXPECT_EVENT(0, DB, stub(DB), B0);
  EXPECT_EVENT(1, DB, ss_int1_1, 0);

  SUBJECT("MOV SS and a fault");
  fault_bytes = 2;
  start(ss_ud, user, 0, WATCH_READS);
  EXPECT_EVENTS(1);
  EXPECT_EVENT(0, UD, ss_ud_1, 0);
  start(ss_ud, user, FL_TF, WATCH_READS);
  EXPECT_EVENT(0, UD, ss_ud_1, 0);
  EXPECT_STEPS(1, 1, ss_ud_1 + 3);
  start(ss_page_fault, user, FL_TF, WATCH_READS);
  EXPECT_EVENT(0, PF, ss_page_fault_1, 0);
  EXPECT_STEPS(1, 1, ss_page_fault_1 + 3);
}

static void test_syscall(void) {
  SUBJECT("MOV SS and SYSCALL");
  wrmsr(0xc0000081, (u64)0x18 << 48 | (u64)KCODE << 32);
  wrmsr(0xc0000082, (u64)syscall_entry);
  wrmsr(0xc0000084, FL_TF | FL_IF);
  use_ist(DB, 1);
  start(ss_syscall, 1, 0, WATCH_READS);
  EXPECT_EVENTS(1);
  EXPECT_EVENT(0, DB, syscall_entry, B0);
  EXPECT(events[0].kernel);
  start(ss_syscall, 1, FL_TF, 0x400);
  EXPECT_STEPS(0, 2, ss_syscall_1);  // SYSRET brings TF back
  use_ist(DB, 0);
}

static void test_general_detect(void) {
  SUBJECT("general detect");
  start(read_dr, 0, 0, 0x400 | GD);
  EXPECT_EVENTS(1);
  EXPECT_EVENT(0, DB, read_dr, BD);
  start(read_dr, 0, FL_TF, 0x400 | GD);
  EXPECT_EVENT(0, DB, read_dr, BD);
  EXPECT_STEPS(1, 2, read_dr_1);
  // MOV SS does not hold it back, and what MOV SS has left is lost with it.
  start(ss_read_dr, 0, 0, WATCH_READS | GD);
  EXPECT_EVENTS(1);
  EXPECT_EVENT(0, DB, ss_read_dr_0, BD);
  start(ss_read_dr, 0, FL_TF, 0x400 | GD);
  EXPECT_EVENT(0, DB, ss_read_dr_0, BD);
  EXPECT_STEPS(1, 2, ss_read_dr_1);
  start(ss_read_dr, 0, FL_TF, WATCH_READS | GD);
  EXPECT_EVENT(0, DB, ss_read_dr_0, BD);
  EXPECT_STEPS(1, 2, ss_read_dr_1);
  // INT1 enters the handler with GD cleared, as every debug exception does; else reading DR6 there would
  // fault.
  start(icebp_alone, 0, 0, 0x400 | GD);
  EXPECT_EVENTS(1);
  EXPECT_EVENT(0, DB, icebp_alone_1, 0);
}

static void test_halt(void) {
  SUBJECT("MOV SS and HLT");
  start(ss_hlt, 0, 0, WATCH_READS);  // no interrupt would end it
  EXPECT_EVENTS(1);
  EXPECT_EVENT(0, DB, ss_hlt_1, B0);
}

static void test_branch_trap(void) {
  SUBJECT("BTF");
  wrmsr(0x1d9, 2);
  start(icebp_alone, 0, 0, 0x400);
  EXPECT_EQ(rdmsr(0x1d9) & 2, 0);
  wrmsr(0x1d9, 0);
}

int main(void) {
  hooks[DB] = note;
  hooks[0x80] = hooks[OF] = note;
  hooks[UD] = hooks[PF] = note_fault;
  for (int user = 0; user < 2; user++) {
    put_string(user ? "ring 3\n" : "ring 0\n");
    test_icebp(user);
    test_next_instruction(user);
    test_entries(user);
  }
  test_syscall();
  test_general_detect();
  test_halt();
  test_branch_trap();
  return 0;
}
