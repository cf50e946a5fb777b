// Self-modifying code: a store takes effect at the next instruction, wherever it came from
// (SDM vol. 3A 8.1.3; this machine needs no jump in between).
#include "paging.h"

// Rewrites the immediate of the very next instruction.
CODE(next_insn, "movl $0x77, 1f+1(%rip); 1: mov $0x11, %eax");
CODE(same_block, "mov $0x33, %ecx; mov %ecx, 1f+1(%rip); nop; nop; 1: mov $0x11, %eax; add %eax, %eax");
// A loop that increments its own immediate.
CODE(own_loop, "mov $100, %ecx; xor %eax, %eax; 1: add $1, %eax; incb 1b+2(%rip); dec %ecx; jnz 1b");
// Turns the instruction after it into INT3 by a string store.
CODE(string_store, "lea 1f(%rip), %rdi; mov $0xcc, %al; mov $1, %ecx; rep stosb; 1: nop; mov $1, %ebx");
// A call target patched by its caller each time round.
CODE(patched_call,
     "mov $10, %ecx; xor %eax, %eax; 1: mov %ecx, 2f+1(%rip); call 2f; add %edx, %eax; dec %ecx; jnz 1b; "
     "jmp 3f; 2: mov $0, %edx; ret; 3:");
CODE(locked_patch, "lock incb 1f+1(%rip); 1: mov $0x10, %eax");
CODE(push_patch,
     "mov %rsp, %r15; lea 1f+8(%rip), %rsp; mov $0x9090909090909090, %rax; push %rax; "
     "1: mov $5, %ebx; nop; nop; nop; mov %r15, %rsp");
CODE(vector_patch, "movdqu (%rsi), %xmm0; movdqu %xmm0, 1f(%rip); 1: .fill 16, 1, 0x90");

static struct Context c;

int main(void) {
  SUBJECT("next instruction, same block");
  c = kernel_context(next_insn);
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, 0x77);
  c = kernel_context(same_block);
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, 0x66);
  c = kernel_context(own_loop);
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, 5050);
  c = kernel_context(string_store);
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.bx, 0);
  c = kernel_context(patched_call);
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, 55);
  c = kernel_context(locked_patch);
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, 0x11);
  c = kernel_context(push_patch);
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.bx, 0);
  static const u8 code[16] = {0xb8, 0xef, 0xbe, 0,    0,    0x90, 0x90, 0x90,
                              0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90};
  c = kernel_context(vector_patch);
  c.si = (word)code;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.ax, 0xbeef);

  SUBJECT("another page, through an alias, across pages");
  // Two pages: mov $imm32, %eax at the very end of the first, its last bytes and int3 in the second.
  u8 *a = new_page(), *b = new_page();
  u64 va = TEST_VA, alias = TEST_VA + 0x10000;
  map(va, a, PTE_P | PTE_W | PTE_U);
  map(va + 4096, b, PTE_P | PTE_W | PTE_U);
  map(alias, b, PTE_P | PTE_W | PTE_U);
  volatile u8 *code_end = (u8*)va + 4094, *second = (u8*)alias;
  code_end[0] = 0xb8;
  code_end[1] = 0x10;
  second[0] = 0x20;
  second[1] = 0x30;
  second[2] = 0x40;
  second[3] = 0xcc;
  for (int i = 0; i < 8; i++) {
    EXPECT_EQ(access(FETCH, i & 1, va + 4094, 0), BP);
    EXPECT_EQ(last.ax, 0x40302010 + (i << 8));
    second[0]++;
  }
  second[0] = 0x20;
  for (int i = 0; i < 4; i++) {
    EXPECT_EQ(access(FETCH, 0, va + 4094, 0), BP);
    EXPECT_EQ(last.ax, 0x40302010 + i);
    code_end[1]++;
  }
  // Straight through the physical page, and from ring 3.
  for (int i = 0; i < 4; i++) {
    *(volatile u8*)((u64)b + 1 + USER_ALIAS) = i;
    EXPECT_EQ(access(FETCH, 1, va + 4094, 0), BP);
    EXPECT_EQ(last.ax >> 16 & 0xff, i);
  }
  SUBJECT("the code page replaced by another frame");
  u8* d = new_page();
  memset(d, 0x90, 16);
  memcpy(d, "\xb8\x01\x02\x03\x04\xcc", 6);
  memcpy(b, "\xb8\x05\x06\x07\x08\xcc", 6);
  for (int i = 0; i < 6; i++) {
    map(va + 4096, i & 1 ? d : b, PTE_P | PTE_U);
    EXPECT_EQ(access(FETCH, i & 2, va + 4096, 0), BP);
    EXPECT_EQ(last.ax, i & 1 ? 0x04030201 : 0x08070605);
  }
  return 0;
}
