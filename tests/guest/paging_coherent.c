// What goes beyond the manual: every access acts as if it had walked the page tables afresh
// (docs/determinism.md, the coherent TLB), so changes show without any flush. Hardware and QEMU may answer
// otherwise. Also the implicit supervisor accesses that SMAP forbids even with AC = 1 (SDM vol. 3A 4.6.1),
// which QEMU allows.
#include "paging.h"

CODE(load_segment, "mov %edi, %fs");

int main(void) {
  u64 va = TEST_VA;
  u8 *a = new_page(), *b = new_page();
  a[0] = b[0] = 0xcc;
  a[8] = 1;
  b[8] = 2;
  volatile u64* pte = map(va, a, PTE_P | PTE_W | PTE_U);
  volatile u64* pde = entry(boot_pml4, va, 2);
  volatile u8* p = (u8*)va;

  SUBJECT("a cleared A or D bit is set again");
  for (int i = 0; i < 3; i++) {
    EXPECT_EQ(p[8], 1);
    EXPECT(*pte & PTE_A);
    *pte &= ~(u64)PTE_A;
    EXPECT_EQ(p[8], 1);
    EXPECT_EQ(*pte & (PTE_A | PTE_D), i ? PTE_A | PTE_D : PTE_A);
    *pde &= ~(u64)PTE_A;
    EXPECT_EQ(p[8], 1);
    EXPECT(*pde & PTE_A);
    p[16] = i;
    EXPECT(*pte & PTE_D);
    *pte &= ~(u64)PTE_D;
    EXPECT_EQ(p[16], i);
    EXPECT_EQ(*pte & PTE_D, 0);
    p[16] = i;
    EXPECT(*pte & PTE_D);
  }
  SUBJECT("a new frame is used at once");
  *pte = (u64)b | PTE_P | PTE_W;
  EXPECT_EQ(p[8], 2);
  *pte = (u64)a | PTE_P | PTE_W;
  EXPECT_EQ(p[8], 1);
  *pte = (u64)a | PTE_P | PTE_W | PTE_U;
  EXPECT_EQ(fault(FETCH, 1, va), -1);
  *pte = (u64)a | PTE_P | PTE_W | PTE_U | PTE_NX;
  EXPECT_EQ(fault(FETCH, 1, va), PF_P | PF_U | PF_I);
  *pte = (u64)a | PTE_P;
  EXPECT_EQ(fault(WRITE, 0, va), PF_P | PF_W);
  *pte = 0;
  EXPECT_EQ(fault(READ, 0, va), 0);
  *pte = (u64)b | PTE_P;
  EXPECT_EQ(p[8], 2);
  SUBJECT("a page table replaced, and written through another mapping");
  u64* table = new_page();
  u64 old = *pde;
  table[0] = (u64)a | PTE_P | PTE_W;
  *pde = (u64)table | PTE_P | PTE_W;
  EXPECT_EQ(p[8], 1);
  *pde = old;
  EXPECT_EQ(p[8], 2);
  volatile u64* alias = (u64*)((u64)pte + USER_ALIAS);
  *alias = (u64)a | PTE_P | PTE_W;
  EXPECT_EQ(p[8], 1);
  SUBJECT("the PML4 entry");
  u64 keep = boot_pml4[2];
  boot_pml4[2] = 0;
  EXPECT_EQ(fault(READ, 0, va), 0);
  boot_pml4[2] = keep;
  EXPECT_EQ(p[8], 1);
  SUBJECT("a PTE written through a mapping of its own page table");
  u64* own = new_page();
  own[0] = (u64)a | PTE_P | PTE_W;
  own[1] = (u64)own | PTE_P | PTE_W;
  *pde = (u64)own | PTE_P | PTE_W;
  *(volatile u64*)(va + 4096) = (u64)b | PTE_P | PTE_W;
  EXPECT_EQ(p[8], 2);
  *pde = old;

  if (cpuid_bit(7, 0, 1, 20)) {
    SUBJECT("SMAP and implicit accesses");
    struct Context c;
    // A descriptor load from an LDT in user memory. (With the GDT there, #PF itself could not be delivered.)
    u64 base = (u64)gdt + USER_ALIAS;
    gdt[FREE_SELECTOR / 8] = 0x7f | (base & 0xffffff) << 16 | 0x82ull << 40 | (base >> 24 & 0xff) << 56;
    gdt[FREE_SELECTOR / 8 + 1] = base >> 32;
    asm volatile("lldt %0" ::"r"((u16)FREE_SELECTOR));
    write_cr4(read_cr4() | 1 << 21);
    c = kernel_context(load_segment);
    c.flags |= FL_AC;
    c.di = KDATA | 4;
    EXPECT_EQ(run(&c), PF);
    EXPECT_EQ(c.error, PF_P);
    EXPECT_EQ(c.cr2, base + KDATA);
    write_cr4(read_cr4() & ~(1ul << 21));
  }
  return 0;
}
