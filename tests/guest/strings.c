// String instructions: REP with page ends, DF = 1, faults midway, address sizes, overlaps, segments.
#include "paging.h"

CODE(movsb_code, "rep movsb");
CODE(movsq_code, "rep movsq");
CODE(movsw_code, "rep movsw");
CODE(stosb_code, "rep stosb");
CODE(stosl_code, "rep stosl");
CODE(stosq_code, "rep stosq");
CODE(lodsb_code, "rep lodsb");
CODE(scasb_code, "repne scasb");
CODE(cmpsb_code, "repe cmpsb");
CODE(cmpsq_code, "repe cmpsq");
CODE(movsb_a32, "addr32 rep movsb");
CODE(movsb_fs, "rep movsb %fs:(%rsi), %es:(%rdi)");
CODE(outsb_code, "rep outsb");
CODE(insb_code, "rep insb");

static struct Context c;
static u64 va = TEST_VA;
static u8 *a, *b;

static int go(void* code, u64 si, u64 di, u64 count, u64 ax, u64 flags) {
  c = kernel_context(code);
  c.si = si;
  c.di = di;
  c.cx = count;
  c.ax = ax;
  c.flags |= flags;
  return run(&c);
}

int main(void) {
  a = new_page();
  b = new_page();
  u8 *src = new_page(), *src2 = new_page();
  (void)src2;
  for (int i = 0; i < 8192; i++) src[i] = i * 7 + (i >> 8);
  map(va, a, PTE_P | PTE_W);
  map(va + 4096, b, PTE_P | PTE_W);
  map(va + 8192, b, 0);

  SUBJECT("across a page end, forwards and backwards");
  EXPECT_EQ(go(movsb_code, (u64)src + 3, va + 5, 8000, 0, 0), BP);
  EXPECT_EQ(c.cx, 0);
  EXPECT_EQ(c.di, va + 8005);
  EXPECT_EQ(c.si, (u64)src + 8003);
  int bad = 0;
  for (int i = 0; i < 8000; i++) bad += ((u8*)va)[5 + i] != src[3 + i];
  EXPECT_EQ(bad, 0);
  EXPECT_EQ(go(stosq_code, 0, va + 8192 - 8 - 3, 700, 0x0102030405060708, FL_DF), BP);
  EXPECT_EQ(c.di, va + 8192 - 11 - 5600);
  EXPECT_EQ(*(u64*)(va + 4093), 0x0102030405060708);
  EXPECT_EQ(c.flags & FL_DF, FL_DF);

  SUBJECT("faults midway leave the registers at the element");
  EXPECT_EQ(go(stosb_code, 0, va + 8192 - 100, 200, 0x5a, 0), PF);
  EXPECT_EQ(c.cx, 100);
  EXPECT_EQ(c.di, va + 8192);
  EXPECT_EQ(c.cr2, va + 8192);
  EXPECT_EQ(c.error, PF_W);
  EXPECT_EQ(c.ip, (word)stosb_code);
  EXPECT_EQ(((u8*)va)[8191], 0x5a);
  EXPECT_EQ(go(stosq_code, 0, va + 8192 - 20, 9, 1, 0), PF);  // the third crosses: not written at all
  EXPECT_EQ(c.cx, 7);
  EXPECT_EQ(c.di, va + 8192 - 4);
  EXPECT_EQ(c.cr2, va + 8192);
  EXPECT_EQ(((u8*)va)[8190], 0x5a);
  EXPECT_EQ(go(movsq_code, va + 8192 - 24, va + 16, 5, 0, 0), PF);  // source
  EXPECT_EQ(c.cx, 2);
  EXPECT_EQ(c.error, 0);
  map(va - 0 + 3 * 4096, a, PTE_P);
  EXPECT_EQ(go(movsw_code, (u64)src, va + 3 * 4096 + 2, 5, 0, 0), PF);
  EXPECT_EQ(c.cx, 5);
  EXPECT_EQ(c.error, PF_P | PF_W);
  EXPECT_EQ(go(lodsb_code, va + 8190, 0, 10, 0, 0), PF);
  EXPECT_EQ(c.cx, 8);

  SUBJECT("count zero touches nothing");
  EXPECT_EQ(go(stosb_code, 0, 0xdead00000000, 0, 0, 0), BP);
  EXPECT_EQ(go(cmpsb_code, 0xdead00000000, 0xdead00000000, 0, 0, FL_ZF | FL_CF), BP);
  EXPECT_EQ(c.flags & (FL_ZF | FL_CF), FL_ZF | FL_CF);

  SUBJECT("SCAS and CMPS end conditions");
  memset(a, 1, 4096);
  memset(b, 1, 4096);
  b[10] = 9;
  EXPECT_EQ(go(scasb_code, 0, va + 4000, 1000, 9, 0), BP);
  EXPECT_EQ(c.di, va + 4096 + 11);
  EXPECT_EQ(c.cx, 1000 - 107);
  EXPECT_EQ(c.flags & FL_ZF, FL_ZF);
  EXPECT_EQ(go(scasb_code, 0, va, 50, 9, 0), BP);
  EXPECT_EQ(c.cx, 0);
  EXPECT_EQ(c.flags & FL_ZF, 0);
  EXPECT_EQ(go(cmpsb_code, va, va + 4096, 4000, 0, 0), BP);
  EXPECT_EQ(c.si, va + 11);
  EXPECT_EQ(c.flags & (FL_ZF | FL_CF), FL_CF);  // 1 - 9 borrows
  EXPECT_EQ(go(cmpsq_code, va + 8, va + 16, 100, 0, 0), BP);
  EXPECT_EQ(c.cx, 0);
  EXPECT_EQ(go(scasb_code, 0, va + 8190, 10, 0x77, 0), PF);
  EXPECT_EQ(c.cx, 8);

  SUBJECT("overlap: a move onto itself by a byte replicates");
  a[0] = 0xee;
  EXPECT_EQ(go(movsb_code, va, va + 1, 3000, 0, 0), BP);
  EXPECT_EQ(a[3000], 0xee);
  EXPECT_EQ(a[3001], 1);

  SUBJECT("32-bit addresses");
  c = kernel_context(movsb_a32);
  c.si = 0xaaaaaaaa00000000 | (u64)src;
  c.di = 0xbbbbbbbb00000000 | (u64)a;
  c.cx = 0xcccccccc00000004;
  EXPECT_EQ(run(&c), BP);
  EXPECT_EQ(c.si, (u64)src + 4);  // written as 32-bit registers
  EXPECT_EQ(c.di, (u64)a + 4);
  EXPECT_EQ(c.cx, 0);
  EXPECT_EQ(*(u32*)a, *(u32*)src);

  SUBJECT("segment override");
  wrmsr(0xc0000100, (u64)src);
  EXPECT_EQ(go(movsb_fs, 100, va, 8, 0, 0), BP);
  EXPECT_EQ(*(u64*)a, *(u64*)(src + 100));

  SUBJECT("INS, OUTS");
  c = kernel_context(outsb_code);
  c.si = va + 8190;
  c.cx = 5;
  c.dx = 0x80;
  EXPECT_EQ(run(&c), PF);
  EXPECT_EQ(c.cx, 3);
  c = kernel_context(insb_code);
  c.di = va + 8190;
  c.cx = 5;
  c.dx = 0x3fd;
  EXPECT_EQ(run(&c), PF);
  EXPECT_EQ(c.cx, 3);
  EXPECT_EQ(b[4095] & 0x60, 0x60);
  return 0;
}
