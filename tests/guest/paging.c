// 4-level paging: rights, error codes, CR2, large pages, reserved bits, accessed and dirty bits, SMEP, SMAP,
// PCID, accesses across pages (SDM vol. 3A chapter 4).
#include "paging.h"

static u8* page;

static void rights(void) {
  SUBJECT("rights");
  u64 va = TEST_VA;
  u64* pte = map(va, page, 0);
  EXPECT_EQ(fault(READ, 0, va + 8), 0);
  EXPECT_EQ(fault(WRITE, 0, va + 16), PF_W);
  EXPECT_EQ(fault(READ, 1, va + 24), PF_U);
  EXPECT_EQ(fault(WRITE, 1, va + 24), PF_U | PF_W);
  EXPECT_EQ(fault(FETCH, 0, va), PF_I);
  EXPECT_EQ(fault(FETCH, 1, va), PF_I | PF_U);
  EXPECT_EQ(last.ip, va);

  page[0] = 0xcc;
  map(va, page, PTE_P);  // supervisor, read-only
  EXPECT_EQ(fault(READ, 0, va), -1);
  EXPECT_EQ(fault(FETCH, 0, va), -1);
  EXPECT_EQ(fault(WRITE, 0, va + 4080), PF_P | PF_W);
  EXPECT_EQ(fault(READ, 1, va), PF_P | PF_U);
  EXPECT_EQ(fault(WRITE, 1, va), PF_P | PF_U | PF_W);
  EXPECT_EQ(fault(FETCH, 1, va), PF_P | PF_U | PF_I);
  write_cr0(read_cr0() & ~0x10000ul);  // WP off: the supervisor may write
  EXPECT_EQ(fault(WRITE, 0, va + 8), -1);
  EXPECT_EQ(*(u64*)(page + 8), 0x1122334455667788);
  EXPECT(*pte & PTE_D);
  map(va, page, PTE_P | PTE_U);
  EXPECT_EQ(fault(WRITE, 1, va), PF_P | PF_U | PF_W);  // never ring 3
  write_cr0(read_cr0() | 0x10000);

  map(va, page, PTE_P | PTE_U | PTE_W);
  EXPECT_EQ(fault(WRITE, 1, va + 8), -1);
  EXPECT_EQ(fault(FETCH, 1, va), -1);
  map(va, page, PTE_P | PTE_U | PTE_W | PTE_NX);
  EXPECT_EQ(fault(READ, 1, va), -1);
  EXPECT_EQ(fault(FETCH, 1, va), PF_P | PF_U | PF_I);
  EXPECT_EQ(fault(FETCH, 0, va), PF_P | PF_I);

  // Each upper level restricts what the PTE allows.
  for (int level = 2; level <= 4; level++) {
    u64 *e = entry(boot_pml4, va, level), old = *e;
    map(va, page, PTE_P | PTE_U | PTE_W);
    *e = old & ~(u64)PTE_W;
    write_cr3(read_cr3());
    EXPECT_EQ(fault(WRITE, 1, va), PF_P | PF_U | PF_W);
    EXPECT_EQ(fault(WRITE, 0, va), PF_P | PF_W);
    *e = old & ~(u64)PTE_U;
    write_cr3(read_cr3());
    EXPECT_EQ(fault(READ, 1, va), PF_P | PF_U);
    *e = old | PTE_NX;
    write_cr3(read_cr3());
    EXPECT_EQ(fault(FETCH, 0, va), PF_P | PF_I);
    *e = old & ~(u64)PTE_P;
    write_cr3(read_cr3());
    EXPECT_EQ(fault(READ, 0, va + 123), 0);
    *e = old;
    write_cr3(read_cr3());
    EXPECT_EQ(fault(FETCH, 1, va), -1);
  }
}

static void reserved_bits(void) {
  SUBJECT("reserved bits");
  u64 va = TEST_VA;
  map(va, page, PTE_P | PTE_W | PTE_U | 1ull << 51);
  EXPECT_HW_EQ(fault(READ, 0, va), PF_P | PF_RSVD);
  EXPECT_HW_EQ(fault(WRITE, 1, va), PF_P | PF_RSVD | PF_W | PF_U);
  EXPECT_HW_EQ(fault(FETCH, 0, va), PF_P | PF_RSVD | PF_I);
  map(va, page, PTE_P | PTE_W);
  u64 *pml4e = entry(boot_pml4, va, 4), old = *pml4e;
  *pml4e |= PTE_PS;
  write_cr3(read_cr3());
  EXPECT_HW_EQ(fault(READ, 0, va), PF_P | PF_RSVD);
  *pml4e = old;
  u64 big = TEST_VA + (1ul << 30);
  *entry(boot_pml4, big, 2) = PTE_P | PTE_W | PTE_PS | 1 << 13;
  EXPECT_HW_EQ(fault(READ, 0, big + 5), PF_P | PF_RSVD);
  *entry(boot_pml4, big, 2) = 0;
  // Without EFER.NXE bit 63 is reserved, and the error code has no I/D bit.
  wrmsr(0xc0000080, rdmsr(0xc0000080) & ~0x800ull);
  map(va, page, PTE_P | PTE_W | PTE_NX);
  EXPECT_HW_EQ(fault(READ, 0, va), PF_P | PF_RSVD);
  EXPECT_HW_EQ(fault(FETCH, 0, va), PF_P | PF_RSVD);
  map(va, page, 0);
  EXPECT_EQ(fault(FETCH, 0, va), 0);
  wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
}

static void accessed_dirty(void) {
  SUBJECT("accessed and dirty");
  u64 va = TEST_VA + 0x200000;  // a page table of its own
  page[0] = 0xcc;
  u64* pte = map(va, page, PTE_P | PTE_W);
  u64* pde = entry(boot_pml4, va, 2);
  *pde &= ~(u64)(PTE_A | PTE_D);
  write_cr3(read_cr3());
  EXPECT_EQ(fault(READ, 0, va), -1);
  EXPECT_EQ(*pte & (PTE_A | PTE_D), PTE_A);
  EXPECT_EQ(*pde & (PTE_A | PTE_D), PTE_A);
  EXPECT_EQ(fault(WRITE, 0, va + 8), -1);
  EXPECT_EQ(*pte & (PTE_A | PTE_D), PTE_A | PTE_D);
  EXPECT_EQ(*pde & (PTE_A | PTE_D), PTE_A);
  map(va, page, PTE_P | PTE_W);
  EXPECT_EQ(fault(FETCH, 0, va), -1);
  EXPECT_EQ(*pte & (PTE_A | PTE_D), PTE_A);
  map(va, page, PTE_P | PTE_W);
  EXPECT_EQ(fault(WRITE, 0, va + 8), -1);
  EXPECT_EQ(*pte & (PTE_A | PTE_D), PTE_A | PTE_D);
  // D cleared and flushed: the next write sets it again, though the mapping was known to be writable.
  *pte &= ~(u64)PTE_D;
  invlpg((void*)va);
  EXPECT_EQ(fault(WRITE, 0, va + 16), -1);
  EXPECT(*pte & PTE_D);
  // A write that faults leaves D alone.
  map(va, page, PTE_P);
  EXPECT_EQ(fault(WRITE, 0, va), PF_P | PF_W);
  EXPECT_EQ(*pte & PTE_D, 0);
  // A locked compare-exchange that fails still is a write.
  map(va, page, PTE_P | PTE_W);
  *(volatile u64*)(page + 64) = 5;
  asm volatile("lock cmpxchgq %1, (%0)" ::"r"(va + 64), "r"(7ul), "a"(6ul) : "memory", "cc");
  EXPECT_EQ(*pte & (PTE_A | PTE_D), PTE_A | PTE_D);
}

static void large_pages(void) {
  SUBJECT("large pages");
  u64 va = TEST_VA + (2ul << 30);
  u64* pde = entry(boot_pml4, va, 2);
  u64 target = (u64)page;
  *pde = (target & ~0x1ffffful) | PTE_P | PTE_W | PTE_PS;
  *(u64*)(page + 256) = 0xfeedface;
  EXPECT_EQ(fault(READ, 0, va + (target & 0x1fffff) + 256), -1);
  EXPECT_EQ(last.ax, 0xfeedface);
  EXPECT_EQ(*pde & (PTE_A | PTE_D), PTE_A);
  EXPECT_EQ(fault(WRITE, 0, va + (target & 0x1fffff) + 264), -1);
  EXPECT_EQ(*pde & (PTE_A | PTE_D), PTE_A | PTE_D);
  EXPECT_EQ(fault(READ, 1, va + 77), PF_P | PF_U);
  // A large page split into small ones.
  u64* table = new_page();
  for (int i = 0; i < 512; i++) table[i] = ((target & ~0x1ffffful) + i * 4096) | PTE_P;
  *pde = (u64)table | PTE_P | PTE_W;
  write_cr3(read_cr3());
  EXPECT_EQ(fault(READ, 0, va + (target & 0x1fffff) + 256), -1);
  EXPECT_EQ(last.ax, 0xfeedface);
  EXPECT_EQ(fault(WRITE, 0, va), PF_P | PF_W);
  *pde = 0;
  write_cr3(read_cr3());

  if (!cpuid_bit(0x80000001, 0, 3, 26)) {
    put_string("no 1-GiB pages\n");
    return;
  }
  u64* pdpte = entry(boot_pml4, TEST_VA + (3ul << 30), 3);
  *pdpte = PTE_P | PTE_W | PTE_PS;
  EXPECT_EQ(fault(READ, 0, TEST_VA + (3ul << 30) + target + 256), -1);
  EXPECT_EQ(last.ax, 0xfeedface);
  EXPECT_EQ(*pdpte & (PTE_A | PTE_D), PTE_A);
  *pdpte = PTE_P | PTE_W | PTE_PS | 1 << 20;
  write_cr3(read_cr3());
  EXPECT_HW_EQ(fault(READ, 0, TEST_VA + (3ul << 30)), PF_P | PF_RSVD);
  *pdpte = 0;
  write_cr3(read_cr3());
}

static void smep_smap(void) {
  u64 va = TEST_VA;
  page[0] = 0xcc;
  map(va, page, PTE_P | PTE_W | PTE_U);
  if (cpuid_bit(7, 0, 1, 7)) {
    SUBJECT("SMEP");
    write_cr4(read_cr4() | 1 << 20);
    EXPECT_EQ(fault(FETCH, 0, va), PF_P | PF_I);
    EXPECT_EQ(fault(FETCH, 1, va), -1);
    EXPECT_EQ(fault(READ, 0, va), -1);
    // With SMEP the I/D bit is there even without NXE.
    wrmsr(0xc0000080, rdmsr(0xc0000080) & ~0x800ull);
    EXPECT_EQ(fault(FETCH, 0, va), PF_P | PF_I);
    wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
    write_cr4(read_cr4() & ~(1ul << 20));
    EXPECT_EQ(fault(FETCH, 0, va), -1);
  }
  if (cpuid_bit(7, 0, 1, 20)) {
    SUBJECT("SMAP");
    write_cr4(read_cr4() | 1 << 21);
    EXPECT_EQ(fault(READ, 0, va), PF_P);
    EXPECT_EQ(fault(WRITE, 0, va), PF_P | PF_W);
    EXPECT_EQ(fault(READ, 1, va), -1);
    EXPECT_EQ(access(READ, 0, va, FL_AC), BP);
    EXPECT_EQ(access(WRITE, 0, va + 8, FL_AC), BP);
    EXPECT_EQ(fault(READ, 0, va), PF_P);
    EXPECT_EQ(fault(FETCH, 0, va), -1);  // SMAP is about data
    asm volatile("stac; movb $1, (%0); clac" ::"r"(va + 32) : "memory");
    EXPECT_EQ(page[32], 1);
    write_cr4(read_cr4() & ~(1ul << 21));
    EXPECT_EQ(fault(READ, 0, va), -1);
  }
}

CODE(cross_instruction, "jmp *%rdi");
CODE(locked_add, "lock addq $1, (%rdi)");

static void page_crossing(void) {
  SUBJECT("across pages");
  u64 va = TEST_VA;
  u8 *first = new_page(), *between = new_page(), *second = new_page();
  memset(first, 0x11, 4096);
  memset(between, 0x99, 4096);
  memset(second, 0x22, 4096);
  map(va, first, PTE_P | PTE_W);
  map(va + 4096, second, PTE_P | PTE_W);
  EXPECT_EQ(access(READ, 0, va + 4093, 0), BP);
  EXPECT_EQ(last.ax, 0x2222222222111111);
  EXPECT_EQ(access(WRITE, 0, va + 4092, 0), BP);
  EXPECT_EQ(*(u32*)(first + 4092), 0x55667788);
  EXPECT_EQ(*(u32*)second, 0x11223344);
  EXPECT_EQ(between[0], 0x99);

  // Faults name the part that is at fault; nothing is written before.
  map(va + 4096, second, 0);
  EXPECT_EQ(access(READ, 0, va + 4090, 0), PF);
  EXPECT_EQ(last.cr2, va + 4096);
  EXPECT_EQ(access(WRITE, 0, va + 4090, 0), PF);
  EXPECT_EQ(last.cr2, va + 4096);
  EXPECT_EQ(last.error, PF_W);
  EXPECT_EQ(first[4090], 0x11);
  map(va, first, 0);
  map(va + 4096, second, PTE_P | PTE_W);
  EXPECT_EQ(access(READ, 0, va + 4090, 0), PF);
  EXPECT_EQ(last.cr2, va + 4090);
  map(va, first, PTE_P | PTE_W);
  map(va + 4096, second, PTE_P);
  EXPECT_EQ(access(READ, 0, va + 4092, 0), BP);
  EXPECT_EQ(access(WRITE, 0, va + 4092, 0), PF);
  EXPECT_EQ(last.error, PF_W | PF_P);
  struct Context c = kernel_context(locked_add);
  c.di = va + 4091;
  EXPECT_EQ(run(&c), PF);
  EXPECT_EQ(c.cr2, va + 4096);

  // An instruction across two pages: movabs $imm64, %rax; int3.
  first[4090] = 0x48;
  first[4091] = 0xb8;
  memset(first + 4092, 0x33, 4);
  memset(second, 0x44, 4);
  second[4] = 0xcc;
  EXPECT_EQ(access(FETCH, 0, va + 4090, 0), BP);
  EXPECT_EQ(last.ax, 0x4444444433333333);
  map(va + 4096, second, PTE_P | PTE_NX);
  EXPECT_EQ(access(FETCH, 0, va + 4090, 0), PF);
  EXPECT_EQ(last.ip, va + 4090);
  EXPECT_EQ(last.cr2, va + 4096);
  EXPECT_EQ(last.error, PF_P | PF_I);
  // Remapping the second page changes the instruction.
  between[4] = 0xcc;
  map(va + 4096, between, PTE_P);
  EXPECT_EQ(access(FETCH, 0, va + 4090, 0), BP);
  EXPECT_EQ(last.ax, 0x9999999933333333);
}

CODE(do_push, "push %rax");
CODE(do_wrcr3, "mov %rdi, %cr3");
CODE(do_wrcr4, "mov %rdi, %cr4");

static void canonical(void) {
  SUBJECT("non-canonical addresses");
  EXPECT_EQ(fault(READ, 0, 0x0000800000000000), -GP);
  EXPECT_EQ(last.error, 0);
  EXPECT_EQ(fault(WRITE, 1, 0xffff7fffffffffff), -GP);
  EXPECT_HW_EQ(fault(READ, 0, 0x00007ffffffffffd), -GP);  // its end is
  EXPECT_EQ(fault(READ, 1, 0xffff800000000000), PF_U);
  EXPECT_EQ(fault(FETCH, 0, 0x1234567800000000), -GP);
  struct Context c = kernel_context(do_push);
  use_ist(SS, 1);  // the stack itself is what is broken
  c.sp = 0x8000000000000000;
  if (!on_qemu) {
    EXPECT_EQ(run(&c), SS);
    EXPECT_EQ(c.error, 0);
    EXPECT_EQ(c.sp, 0x8000000000000000);
  }
  use_ist(SS, 0);
}

static u64 other_root[512] __attribute__((aligned(4096)));

static void pcid(void) {
  if (!cpuid_bit(1, 0, 2, 17)) {
    put_string("no PCID\n");
    return;
  }
  SUBJECT("PCID");
  struct Context c = kernel_context(do_wrcr4);
  c.di = read_cr4() | 1 << 17;
  write_cr3((u64)boot_pml4 | 0x8);  // CR3[11:0] must be zero
  EXPECT_EQ(run(&c), GP);
  write_cr3((u64)boot_pml4);
  write_cr4(read_cr4() | 1 << 17);
  u64 va = TEST_VA;
  u8 *a = new_page(), *b = new_page();
  a[0] = 1;
  b[0] = 2;
  map(va, a, PTE_P | PTE_W);
  memcpy(other_root, boot_pml4, 4096);
  other_root[2] = 0;
  *entry(other_root, va, 1) = (u64)b | PTE_P | PTE_W;
  volatile u8* p = (u8*)va;
  for (int i = 0; i < 4; i++) {
    write_cr3((u64)boot_pml4 | 1 | (i ? 1ull << 63 : 0));
    EXPECT_EQ(*p, 1);
    EXPECT_EQ(read_cr3(), (u64)boot_pml4 | 1);  // bit 63 is not kept
    write_cr3((u64)other_root | 2 | (i ? 1ull << 63 : 0));
    EXPECT_EQ(*p, 2);
  }
  if (cpuid_bit(7, 0, 1, 10)) {
    struct {
      u64 pcid, address;
    } d = {2, va};
    *entry(other_root, va, 1) = (u64)a | PTE_P | PTE_W;
    asm volatile("invpcid %0, %1" ::"m"(d), "r"(0ul) : "memory");
    EXPECT_EQ(*p, 1);
    *entry(other_root, va, 1) = (u64)b | PTE_P | PTE_W;
    asm volatile("invpcid %0, %1" ::"m"(d), "r"(1ul) : "memory");
    EXPECT_EQ(*p, 2);
  }
  write_cr3((u64)boot_pml4);
  write_cr4(read_cr4() & ~(1ul << 17));
}

static void global_pages(void) {
  SUBJECT("global pages");
  u64 va = TEST_VA;
  u8 *a = new_page(), *b = new_page();
  a[0] = 1;
  b[0] = 2;
  write_cr4(read_cr4() | 1 << 7);
  map(va, a, PTE_P | PTE_W | PTE_G);
  EXPECT_EQ(*(volatile u8*)va, 1);
  write_cr3(read_cr3());
  EXPECT_EQ(*(volatile u8*)va, 1);
  *entry(boot_pml4, va, 1) = (u64)b | PTE_P | PTE_W | PTE_G;
  write_cr4(read_cr4() & ~(1ul << 7));  // flushes global entries too
  EXPECT_EQ(*(volatile u8*)va, 2);
}

int main(void) {
  page = new_page();
  rights();
  reserved_bits();
  accessed_dirty();
  large_pages();
  smep_smap();
  page_crossing();
  canonical();
  pcid();
  global_pages();
  return 0;
}
