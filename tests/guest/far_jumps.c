// Direct jumps to another page: where they lead is the address space's business. The same code runs at two
// addresses and in two address spaces with other neighbours, and source and target change their mappings.
#include "paging.h"

enum { DISTANCE = 0x20000 };

static u8 *source, *one, *two;

static void put(u8* at, const char* code, int size) {
  for (int i = 0; i < size; i++) at[i] = (u8)code[i];
}
// jmp to 10h in the next page; and there: return `number`.
static void write_source(u8* page) { put(page, "\xe9\x0b\x10\x00\x00", 5); }
static void write_target(u8* page, char number) {
  put(page + 0x10, (char[]){(char)0xb8, number, 0, 0, 0, (char)0xc3}, 6);
}
static u64 call(u64 va) {
  u64 result;
  asm volatile("call *%1" : "=a"(result) : "r"(va) : "memory", "cc");
  return result;
}

int main(void) {
  const u64 va = TEST_VA, other = TEST_VA + DISTANCE, bits = PTE_P | PTE_W;
  write_source(source = new_page());
  write_target(one = new_page(), 1);
  write_target(two = new_page(), 2);
  map(va, source, bits);
  volatile u64* pte = map(va + 4096, one, bits);

  SUBJECT("one address");
  for (int i = 0; i < 20; i++) EXPECT_EQ(call(va), 1);
  SUBJECT("the target is another page");
  for (int i = 0; i < 20; i++) {
    map(va + 4096, i % 2 ? one : two, bits);
    EXPECT_EQ(call(va), i % 2 ? 1 : 2);
    EXPECT_EQ(call(va), i % 2 ? 1 : 2);
    EXPECT(*pte & PTE_A);
  }
  SUBJECT("the target is gone");
  map(va + 4096, one, 0);
  EXPECT_EQ(access(FETCH, 0, va, 0), PF);
  EXPECT_EQ(last.cr2, va + 4096 + 0x10);
  map(va + 4096, one, bits);
  SUBJECT("the target is written anew");
  for (int i = 0; i < 20; i++) {
    write_target(one, (char)(i + 3));
    EXPECT_EQ(call(va), i + 3);
    EXPECT_EQ(call(va), i + 3);
  }
  write_target(one, 1);
  SUBJECT("the source at another address, whose neighbour is another");
  map(va, source, 0);
  map(other, source, bits);
  map(other + 4096, two, bits);
  for (int i = 0; i < 20; i++) EXPECT_EQ(call(other), 2);
  SUBJECT("the source at both addresses");
  map(va, source, bits);
  for (int i = 0; i < 40; i++) {
    EXPECT_EQ(call(va), 1);
    EXPECT_EQ(call(other), 2);
    EXPECT_EQ(call(other), 2);
  }
  SUBJECT("from one mapping of a page into the next, by the same jump");
  u8* const next = new_page();
  put(next + 0x10, "\xe9\xfb\x0f\x00\x00", 5);  // jmp to 10h in the next page
  for (int i = 0; i < 40; i++) {
    map(other, next, bits);
    map(other + 4096, i % 2 ? next : one, bits);
    map(other + 8192, i % 2 ? two : next, bits);
    EXPECT_EQ(call(other + 0x10), i % 2 ? 2 : 1);
    EXPECT_EQ(call(other + 0x10), i % 2 ? 2 : 1);
  }
  map(other + 4096, next, bits);
  map(other + 8192, two, bits);
  for (int i = 0; i < 40; i++) EXPECT_EQ(call(other + 0x10), 2);
  SUBJECT("two address spaces");
  map(other, source, 0);
  u64* root = new_page();
  for (int i = 0; i < 512; i++) root[i] = i == 2 ? 0 : boot_pml4[i];
  *entry(root, va, 1) = (u64)source | bits;
  *entry(root, va + 4096, 1) = (u64)two | bits;
  for (int i = 0; i < 40; i++) {
    EXPECT_EQ(call(va), 1);
    write_cr3((u64)root);
    EXPECT_EQ(call(va), 2);
    EXPECT_EQ(call(va), 2);
    write_cr3((u64)boot_pml4);
  }
  return 0;
}
