// Small loops, which the engine unrolls once they have made some turns: results, steps, and what is exact when a
// turn in the middle faults, reaches another page, or changes the loop's own code; and operands in two pages.
#include "paging.h"

static u64 words[2048] __attribute__((aligned(4096)));
static struct Context c;
enum { kPasses = 3 };

CODE(sum, "1: add (%rsi,%rcx,8), %rax; inc %rcx; cmp %rdx, %rcx; jnz 1b");
CODE(stop_at_zero, "1: cmpb $0, (%rsi); lea 1(%rsi), %rsi; jnz 1b");
CODE(divide,
     "1: xor %edx, %edx; mov %rdi, %rax; .globl divide_at; divide_at: divq (%rsi,%rcx,8); add %rax, %rbx; inc %rcx; jnz 1b");
CODE(move, "1: mov (%rsi), %rax; mov %rax, (%rdi); add $8, %rsi; add $8, %rdi; dec %rcx; jnz 1b");
CODE(move_vectors, "1: movups (%rsi,%rcx), %xmm0; movups %xmm0, (%rdi,%rcx); add $16, %rcx; cmp %rdx, %rcx; jb 1b");
CODE(add_all, "1: add %rax, (%rdi); add $8, %rdi; dec %rcx; jnz 1b");
CODE(leave_early, "1: inc %rax; cmp (%rsi), %rax; je 2f; dec %rcx; jnz 1b; 2: lahf");
CODE(timed, "rdtsc; mov %eax, %ebx; 1: dec %rcx; jnz 1b; rdtsc; sub %ebx, %eax");
CODE(rewrites, "lea 2f+1(%rip), %rdi; movl $0, (%rdi); 1: incl (%rdi); 2: .byte 0x05; .long 0; dec %rcx; jnz 1b");
extern char divide_at[];

static void start(void* code, u64 si, u64 di, u64 cx) {
  c = kernel_context(code);
  c.si = si;
  c.di = di;
  c.cx = cx;
}
static int loop(void* code, u64 si, u64 di, u64 cx) {
  start(code, si, di, cx);
  return run(&c);
}

static void results(void) {
  for (int i = 0; i < 2048; i++) words[i] = i;
  for (u64 n = 1; n < 70; n++) {
    start(sum, (u64)words, 0, 0);
    c.ax = 0, c.dx = n;
    EXPECT_EQ(run(&c), BP);
    EXPECT_EQ(c.ax, n * (n - 1) / 2);
    EXPECT_EQ(c.flags & FL_ZF, FL_ZF);
    EXPECT_EQ(loop(timed, 0, 0, n), BP);
    EXPECT_HW_EQ(c.ax, 2 + 2 * n);
    words[0] = n;
    start(leave_early, (u64)words, 0, 50);
    c.ax = 0;
    EXPECT_EQ(run(&c), BP);
    EXPECT_EQ(c.ax & 0xff, n < 50 ? n : 50);
    EXPECT_EQ(c.cx, n <= 50 ? 51 - n : 0);
    words[0] = 0;
  }
  start(sum, (u64)words + 4, 0, 0);  // a word in two pages each 512 turns
  c.ax = 0, c.dx = 2000;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, (u64)(2000 * 2001 / 2) << 32);
  EXPECT_EQ(loop(rewrites, 0, 0, 40), BP);
  EXPECT_EQ((u32)c.ax, (u32)(kernel_context(rewrites).ax + 40 * 41 / 2));
}

static void operands_in_two_pages(void) {
  u8* const bytes = (u8*)words;
  for (int i = 0; i < 4096; i++) bytes[i] = i * 7;
  EXPECT_EQ(loop(move, (u64)bytes + 3, (u64)bytes + 8192 - 11, 400), BP);
  int wrong = 0;
  for (int i = 0; i < 3200; i++) wrong += bytes[8192 - 11 + i] != bytes[3 + i];
  start(move_vectors, (u64)bytes + 5, (u64)bytes + 8192 - 9, 0);
  c.dx = 3200;
  EXPECT_EQ(run(&c), BP);
  for (int i = 0; i < 3200; i++) wrong += bytes[8192 - 9 + i] != bytes[5 + i];
  EXPECT_EQ(wrong, 0);
  memset(words, 0, sizeof words);
  start(add_all, 0, (u64)bytes + 4096 - 20, 5);
  c.ax = 0x0102030405060708;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(*(u64*)(bytes + 4096 - 4), 0x0102030405060708);
  EXPECT_EQ(*(u64*)(bytes + 4096 + 12), 0x0102030405060708);
  EXPECT_EQ(*(u64*)(bytes + 4096 + 20), 0);
}

static void faults(void) {
  for (int i = 0; i < 2048; i++) words[i] = 1;
  for (int at = 8; at < 24; at++) {
    words[at] = 0;
    start(divide, (u64)words, 5, 0);
    c.bx = 0;
    EXPECT_EQ(run(&c), DE);
    EXPECT_EQ(c.ip, (word)divide_at);
    EXPECT_EQ(c.cx, at);
    EXPECT_EQ(c.bx, 5 * at);
    EXPECT_EQ(c.ax, 5);
    words[at] = 1;
  }
  map(TEST_VA, words, PTE_P | PTE_W);
  u64* const second = map(TEST_VA + 4096, words + 512, 0);
  for (int i = 0; i < 20; i++) {
    start(sum, TEST_VA + 4096 - 16 * 8 - 4 * i, 0, 0);
    c.ax = 0, c.dx = 100;
    EXPECT_EQ(run(&c), PF);
    EXPECT_EQ(c.cr2, TEST_VA + 4096);
    EXPECT_EQ(c.cx, 16 + i / 2);
    EXPECT_EQ(c.ip, (word)sum);
  }
  // What no turn touches is not marked as accessed, though the loop's lookup spans several turns.
  *second = (u64)(words + 512) | PTE_P | PTE_W;
  words[511] = 0;
  EXPECT_EQ(loop(stop_at_zero, TEST_VA + 4096 - 100, 0, 0), BP);
  EXPECT_EQ(c.si, TEST_VA + 4096 - 100 + 1);  // the upper half of a 1
  for (int i = 0; i < 512; i++) words[i] = ~0ull;
  ((u8*)words)[4095] = 0;
  for (int i = 40; i < 60; i++) {
    EXPECT_EQ(loop(stop_at_zero, TEST_VA + 4096 - i, 0, 0), BP);
    EXPECT_EQ(c.si, TEST_VA + 4096);
  }
  EXPECT_EQ(*second & PTE_A, 0);
}

void main(void) {
  write_cr4(read_cr4() | 1 << 9);  // OSFXSR
  for (int pass = 0; pass < kPasses; pass++) {
    results();
    operands_in_two_pages();
    faults();
  }
}
