// Blocks that go on behind conditional jumps, and take their steps off the counter part by part: wherever such a
// block is left, by a jump, a fault, an access or an instruction in C++, every step has been counted once.
// The TSC counts steps.
#include "paging.h"

static u64 words[1024] __attribute__((aligned(4096)));
static struct Context c;
enum { kPasses = 12 };  // more than it takes for jumps to be linked, lookups to branch and groups to be left directly

// EDI says at which jump the block is left.
CODE(left_at,
     "rdtsc; mov %eax, %ebx; jmp 1f; 1: dec %edi; jz 9f; nop; dec %edi; jz 9f; nop; nop; dec %edi; jz 9f;"
     "nop; nop; nop; dec %edi; jz 9f; nop; 9: rdtsc; sub %ebx, %eax");
// The TSC is read in the second part and in the third.
CODE(read_between,
     "rdtsc; mov %eax, %ebx; jmp 1f; 1: test %edi, %edi; jz 9f; nop; rdtsc; mov %eax, %ecx; test %edi, %edi; jz 9f;"
     "rdtsc; nop; 9: sub %ebx, %ecx; sub %ebx, %eax");
// Accesses that go through C++ in the second part (CMPXCHG8B), and in the third (an operand in two pages).
CODE(slow_between,
     "rdtsc; mov %eax, %r8d; xor %eax, %eax; jmp 1f; 1: test %edi, %edi; jz 9f; nop; cmpxchg8b (%rsi);"
     "test %edi, %edi; jz 9f; addq $1, 4092(%rsi); nop; 9: rdtsc; sub %r8d, %eax");
// It faults in the second part or in the third.
CODE(fault_between,
     "test %edi, %edi; jz 9f; nop; .globl first_fault; first_fault: mov (%rsi), %eax; nop; test %edi, %edi; jz 9f; nop;"
     ".globl second_fault; second_fault: mov (%rcx), %eax; nop; 9: nop");
// What one lookup has found serves two accesses to (RSI), with the lookup of another between them.
CODE(lookups_between,
     "mov (%rsi), %rax; test %edi, %edi; jz 9f; mov (%rcx), %rbx; add 8(%rsi), %rax; add 8(%rcx), %rbx;"
     "mov %rcx, %r9; sub %rsi, %r9; add 16(%rsi), %rax; add (%rsi,%r9), %rax; add 24(%rsi), %rax; 9: nop");
// One lookup for two accesses that lie in two pages: the block is left for one without such lookups.
CODE(pages_between,
     "rdtsc; mov %eax, %r8d; jmp 1f; 1: test %edi, %edi; jz 9f; mov (%rsi), %rax; add 8(%rsi), %rax; mov %rax, %rcx;"
     "test %edi, %edi; jz 9f; nop; 9: rdtsc; sub %r8d, %eax");
extern char first_fault[], second_fault[];

static int start(void* code, u64 si, u64 cx, u64 di) {
  c = kernel_context(code);
  c.si = si;
  c.cx = cx;
  c.di = di;
  return run(&c);
}

static void jumps(void) {
  static const u8 steps[] = {0, 3, 6, 10, 15, 16};  // from the label on
  for (u64 at = 1; at <= 5; at++) {
    EXPECT_EQ(start(left_at, 0, 0, at), BP);
    EXPECT_HW_EQ(c.ax, 2 + steps[at]);
  }
  for (u64 on = 0; on <= 1; on++) {
    EXPECT_EQ(start(read_between, 0, 0, on), BP);
    if (!on) continue;
    EXPECT_HW_EQ((u32)c.cx, 6);
    EXPECT_HW_EQ((u32)c.ax, 10);
  }
}

static void slow_accesses(void) {
  memset(words, 0, sizeof words);
  for (u64 on = 0; on <= 1; on++) {
    EXPECT_EQ(start(slow_between, (u64)words, 0, on), BP);
    EXPECT_HW_EQ((u32)c.ax, on ? 12 : 6);
    EXPECT_EQ(words[511] >> 32, on);
  }
}

// Steps from before the run to behind it, with what that takes itself.
static u64 steps_of_run(u64 si, u64 cx, int vector, const char* ip) {
  const u64 before = rdtsc();
  const int got = start(fault_between, si, cx, 1);
  const u64 steps = rdtsc() - before;
  EXPECT_EQ(got, vector);
  EXPECT_EQ(c.ip, (word)ip);
  return steps;
}

static void faults(void) {
  map(TEST_VA, words, PTE_P | PTE_W);
  map(TEST_VA + 4096, words, 0);
  const u64 first = steps_of_run(TEST_VA + 4096, TEST_VA, PF, first_fault);
  const u64 second = steps_of_run(TEST_VA, TEST_VA + 4096, PF, second_fault);
  EXPECT_HW_EQ(second - first, 5);
}

static void lookups(void) {
  for (int i = 0; i < 1024; i++) words[i] = i;
  for (u64 on = 0; on <= 1; on++) {
    EXPECT_EQ(start(lookups_between, (u64)words, (u64)(words + 512), on), BP);
    if (!on) continue;
    EXPECT_EQ(c.ax, 0 + 1 + 2 + 512 + 3);
    EXPECT_EQ(c.bx, 512 + 513);
  }
}

static void pages(void) {
  words[511] = 3, words[512] = 4;
  for (int i = 0; i < 3; i++) {
    EXPECT_EQ(start(pages_between, (u64)(words + 511), 0, 1), BP);
    EXPECT_HW_EQ((u32)c.ax, 11);
    EXPECT_EQ(c.cx, 7);
  }
}

void main(void) {
  for (int pass = 0; pass < kPasses; pass++) {
    jumps();
    slow_accesses();
    faults();
    lookups();
    pages();
  }
}
