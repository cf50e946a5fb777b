// A 32-bit kernel: 2-level paging with 4-MiB pages, PAE paging and its PDPTE registers (SDM vol.
// 3A 4.3, 4.4).
#include "runtime.h"

enum { P = 1, W = 2, U = 4, A = 32, D = 64, PS = 128 };
static u32 directory[1024] __attribute__((aligned(4096))), table[1024] __attribute__((aligned(4096)));
static u64 pdpt[4] __attribute__((aligned(32))), pd[4][512] __attribute__((aligned(4096)));
static u64 pt[512] __attribute__((aligned(4096)));
static u8 page_a[4096] __attribute__((aligned(4096))), page_b[4096] __attribute__((aligned(4096)));
#define VA 0xc0000000ul

CODE(do_read, "mov (%edi), %eax");
CODE(do_write, "mov %esi, (%edi)");
CODE(do_jump, "jmp *%edi");
CODE(do_cr3, "mov %edi, %cr3");
static struct Context c;
static int fault(void* code, int user, word va) {
  c = user ? user_context(code) : kernel_context(code);
  c.di = va;
  int v = run(&c);
  if (v == BP) return -1;
  if (v != PF) return -v;
  EXPECT_EQ(c.cr2, va);
  return c.error;
}

static void two_level(void) {
  SUBJECT("32-bit paging, 4-MiB pages");
  for (int i = 0; i < 1024; i++) directory[i] = i << 22 | P | W | U | PS;
  directory[VA >> 22] = (u32)table | P | W | U;
  table[0] = (u32)page_a | P | W | U;
  table[1] = (u32)page_b | P;
  write_cr3((word)directory);
  write_cr4(read_cr4() | 0x10);  // PSE
  write_cr0(read_cr0() | 0x80010000);
  page_a[0] = page_b[0] = 0xcc;
  EXPECT_EQ(fault(do_read, 1, VA), -1);
  EXPECT_EQ(table[0] & (A | D), A);
  EXPECT_EQ(fault(do_write, 1, VA + 8), -1);
  EXPECT_EQ(table[0] & (A | D), A | D);
  EXPECT_EQ(directory[VA >> 22] & (A | PS), A);
  EXPECT_EQ(fault(do_write, 0, VA + 4096), PF_P | PF_W);
  EXPECT_EQ(fault(do_read, 1, VA + 4096), PF_P | PF_U);
  EXPECT_EQ(fault(do_jump, 1, VA + 4096), PF_P | PF_U);  // no I/D bit without NXE or SMEP
  EXPECT_EQ(fault(do_jump, 0, VA), -1);
  EXPECT_EQ(fault(do_read, 0, VA + 8192), 0);
  EXPECT_EQ(fault(do_read, 0, 0xc0000000 + 8192 + 4092), 0);
  directory[0x200] = 0;
  invlpg((void*)0x80000000);
  EXPECT_EQ(fault(do_write, 1, 0x80000000), PF_W | PF_U);
  EXPECT(directory[(word)page_a >> 22] & A);
  // Without PSE, PDE.PS is ignored: the entry points at a page table.
  table[(VA >> 12) & 1023] = (u32)page_a | P | W | U;
  write_cr0(read_cr0() & 0x7fffffff);
}

static void pae(void) {
  SUBJECT("PAE paging");
  for (int i = 0; i < 2048; i++) pd[i / 512][i % 512] = (u64)i << 21 | P | W | U | PS;
  for (int i = 0; i < 4; i++) pdpt[i] = (u32)pd[i] | P;
  pd[3][0] = (u32)pt | P | W | U;
  pt[0] = (u32)page_a | P | W | U;
  pt[1] = (u32)page_b | P | U | 1ull << 63;
  pt[2] = (u32)page_b | P | 1ull << 51;
  page_a[0] = page_b[0] = 0xcc;
  page_a[16] = 0x5a;
  write_cr4(read_cr4() | 0x20);
  wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
  write_cr3((word)pdpt);
  write_cr0(read_cr0() | 0x80010000);
  EXPECT_EQ(fault(do_read, 1, VA + 16), -1);
  EXPECT_EQ(c.ax & 0xff, 0x5a);
  EXPECT_EQ(pt[0] & (A | D), A);
  EXPECT_EQ(fault(do_write, 1, VA + 8), -1);
  EXPECT_EQ(pt[0] & (A | D), A | D);
  EXPECT_EQ(fault(do_jump, 1, VA), -1);
  EXPECT_EQ(fault(do_jump, 1, VA + 4096), PF_P | PF_U | PF_I);
  EXPECT_EQ(fault(do_jump, 0, VA + 4096), PF_P | PF_I);
  EXPECT_EQ(fault(do_write, 1, VA + 4096), PF_P | PF_U | PF_W);
  EXPECT_HW_EQ(fault(do_read, 0, VA + 8192), PF_P | PF_RSVD);
  EXPECT_EQ(fault(do_write, 1, VA + 3 * 4096), PF_U | PF_W);

  SUBJECT("PDPTEs are registers");
  pdpt[3] = 0;
  if (!on_qemu) EXPECT_EQ(fault(do_read, 0, VA + 16), -1);  // still the one loaded by MOV CR3
  write_cr3((word)pdpt);
  EXPECT_EQ(fault(do_read, 0, VA + 16), 0);
  pdpt[3] = (u32)pd[3] | P | W;  // R/W is reserved in a PDPTE
  if (!on_qemu) {
    EXPECT_EQ(fault(do_cr3, 0, (word)pdpt), -GP);
    EXPECT_EQ(c.error, 0);
    EXPECT_EQ(fault(do_read, 0, VA + 16), 0);
  }
  pdpt[3] = (u32)pd[3] | P;
  write_cr3((word)pdpt);
  EXPECT_EQ(fault(do_read, 0, VA + 16), -1);
  // The page directories seen through a recursive mapping, changed under way.
  pt[4] = (u32)pt | P | W;
  write_cr3((word)pdpt);
  volatile u64* alias = (u64*)(VA + 4 * 4096);
  alias[0] = (u32)page_b | P | W;
  invlpg((void*)VA);
  *(volatile u8*)(page_b + 16) = 0x77;
  EXPECT_EQ(*(volatile u8*)(VA + 16), 0x77);
  write_cr0(read_cr0() & 0x7fffffff);
  write_cr4(read_cr4() & ~0x30ul);
}

int main(void) {
  two_level();
  pae();
  return 0;
}
