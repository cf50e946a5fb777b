// Page tables of the 64-bit paging tests: 4-KiB mappings at any address from PML4 entry 2 up.
#pragma once
#include "runtime.h"

enum {
  PTE_P = 1,
  PTE_W = 2,
  PTE_U = 4,
  PTE_PWT = 8,
  PTE_PCD = 16,
  PTE_A = 32,
  PTE_D = 64,
  PTE_PS = 128,
  PTE_G = 256,
};
#define PTE_NX (1ull << 63)
#define PTE_FRAME 0x000ffffffffff000ull
#define TEST_VA 0x10000000000ul  // PML4 entry 2

extern u64 boot_pml4[512], boot_pdpt[512];
static u8 page_pool[64][4096] __attribute__((aligned(4096)));
static int pages_used;

static void* new_page(void) { return page_pool[pages_used++]; }

// The entry that maps va at `level` (1 = PTE … 4 = PML4E), with permissive upper entries made as needed.
static u64* entry(u64* root, u64 va, int level) {
  u64* table = root;
  for (int l = 4; l > level; l--) {
    u64* e = &table[va >> (3 + 9 * l) & 511];
    if (!(*e & PTE_P)) *e = (u64)new_page() | PTE_P | PTE_W | PTE_U;
    table = (u64*)(*e & PTE_FRAME);
  }
  return &table[va >> (3 + 9 * level) & 511];
}
static inline u64* map(u64 va, void* page, u64 bits) {
  u64* e = entry(boot_pml4, va, 1);
  *e = (u64)page | bits;
  invlpg((void*)va);
  return e;
}

CODE(do_read, "mov (%rdi), %rax");
CODE(do_write, "mov %rsi, (%rdi)");
CODE(do_jump, "jmp *%rdi");
CODE(do_read_ac, "mov (%rdi), %rax");

enum How { READ, WRITE, FETCH };
static struct Context last;  // registers at the end of the access

// The vector an access ends with, BP when it worked (the page fetched from holds int3).
static int access(enum How how, int user, u64 va, u64 flags) {
  static char* const code[] = {do_read, do_write, do_jump};
  last = user ? user_context(code[how]) : kernel_context(code[how]);
  last.di = va;
  last.si = 0x1122334455667788;
  last.flags |= flags;
  return run(&last);
}
// The page-fault error code of an access, -1 when it worked, -vector for others; checks CR2.
static inline int fault(enum How how, int user, u64 va) {
  int vector = access(how, user, va, 0);
  if (vector == BP) return -1;
  if (vector != PF) return -vector;
  EXPECT_EQ(last.cr2, va);
  return last.error;
}
