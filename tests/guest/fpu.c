// x87, SSE and AVX state as a kernel handles it: control words, exceptions, FXSAVE, XSAVE, XCR0.
#include "runtime.h"

static struct Context c;
static u8 area[1024] __attribute__((aligned(64))), other[1024] __attribute__((aligned(64)));

CODE(fill_state, "fninit; fld1; fldpi; movdqu (%rdi), %xmm0; movdqu 16(%rdi), %xmm15");
CODE(avx_code, "vaddps %ymm0, %ymm0, %ymm0");
CODE(fxsave_code, "fxsave (%rdi)");
CODE(fxrstor_code, "fxrstor (%rdi)");
CODE(xsave_code, "xsave64 (%rdi)");
CODE(xrstor_code, "xrstor64 (%rdi)");
CODE(stack_fault, "fninit; fldcw (%rdi); fstp %st(0); .globl sf_next; sf_next: fwait");
extern char sf_next[];

int main(void) {
  SUBJECT("control words");
  u16 cw, sw;
  u32 mx;
  asm volatile("fninit; fnstcw %0; fnstsw %1" : "=m"(cw), "=m"(sw));
  EXPECT_EQ(cw, 0x37f);
  EXPECT_EQ(sw, 0);
  asm volatile("stmxcsr %0" : "=m"(mx));
  EXPECT_EQ(mx, 0x1f80);
  cw = 0x7f;  // 24-bit precision, nearest
  double third;
  asm volatile("fldcw %1; fld1; fld1; fld1; faddp; fld1; faddp; fdivrp; fstpl %0; fninit"
               : "=m"(third)
               : "m"(cw));
  u64 bits;
  memcpy(&bits, &third, 8);
  EXPECT_EQ(bits, 0x3fd5555560000000);  // 1/3 rounded to single
  cw = 0xf7f;                           // 64-bit precision, truncate
  asm volatile("fldcw %1; fld1; fld1; fld1; faddp; fld1; faddp; fdivrp; fstpl %0; fninit"
               : "=m"(third)
               : "m"(cw));
  memcpy(&bits, &third, 8);
  EXPECT_EQ(bits, 0x3fd5555555555555);
  mx = 0x5f80;  // round up
  float f;
  asm volatile("ldmxcsr %1; cvtsi2ss %2, %%xmm0; movss %%xmm0, %0" : "=m"(f) : "m"(mx), "r"(16777217));
  u32 b32;
  memcpy(&b32, &f, 4);
  EXPECT_EQ(b32, 0x4b800001);
  asm volatile("stmxcsr %0" : "=m"(mx));
  EXPECT_EQ(mx & 0x3f, 0x20);  // PE
  mx = 0x1f80;
  asm volatile("ldmxcsr %0" ::"m"(mx));

  SUBJECT("unmasked x87 exceptions");
  static u16 unmask_all = 0x340;
  c = kernel_context(stack_fault);
  c.di = (word)&unmask_all;
  EXPECT_HW_EQ(run(&c), MF);
  EXPECT_HW_EQ(c.ip, (word)sf_next);
  asm volatile("fnstsw %0" : "=m"(sw));
  EXPECT_HW_EQ(sw & 0x80ff, 0x80c1);  // B, ES, SF, IE
  asm volatile("fnclex; fnstsw %0" : "=m"(sw));
  EXPECT_EQ(sw & 0x80ff, 0);
  asm volatile("fninit");

  SUBJECT("FXSAVE, FXRSTOR");
  static u8 pattern[32] = "0123456789abcdefFEDCBA9876543210";
  c = kernel_context(fill_state);
  c.di = (word)pattern;
  EXPECT_EQ(run(&c), BP);
  memset(area, 0xaa, sizeof area);
  asm volatile("fxsave64 %0" : "=m"(area));
  EXPECT_EQ(*(u16*)area, 0x37f);
  EXPECT_EQ(*(u16*)(area + 2) >> 11 & 7, 6);          // TOP
  EXPECT_EQ(area[4], 0xc0);                           // two registers in use
  EXPECT_EQ(*(u64*)(area + 32), 0xc90fdaa22168c235);  // ST0 = pi
  EXPECT_EQ(*(u16*)(area + 40), 0x4000);
  EXPECT_EQ(*(u64*)(area + 160), *(u64*)pattern);
  EXPECT_EQ(*(u64*)(area + 160 + 15 * 16 + 8), *(u64*)(pattern + 24));
  EXPECT_EQ(area[464], 0xaa);  // bytes 464..511 are the program's
  asm volatile("fninit; pxor %%xmm0, %%xmm0; fxrstor64 %0" ::"m"(area));
  memset(other, 0xaa, sizeof other);
  asm volatile("fxsave64 %0" : "=m"(other));
  int bad = 0;
  for (int i = 0; i < 512; i++) bad += area[i] != other[i];
  EXPECT_EQ(bad, 0);
  c = kernel_context(fxsave_code);
  c.di = (word)area + 8;
  EXPECT_HW_EQ(run(&c), GP);
  *(u32*)(area + 24) |= 0x80000000;  // reserved MXCSR bit
  c = kernel_context(fxrstor_code);
  c.di = (word)area;
  EXPECT_HW_EQ(run(&c), GP);

  if (!cpuid_bit(1, 0, 2, 26)) {
    put_string("no XSAVE\n");
    return 0;
  }
  SUBJECT("XSAVE, XCR0, AVX");
  c = kernel_context(xsave_code);
  c.di = (word)area;
  EXPECT_EQ(run(&c), UD);  // CR4.OSXSAVE is off
  EXPECT_EQ(cpuid_bit(1, 0, 2, 27), 0);
  write_cr4(read_cr4() | 1 << 18);
  EXPECT_EQ(cpuid_bit(1, 0, 2, 27), 1);
  c = kernel_context(avx_code);
  EXPECT_EQ(run(&c), UD);  // XCR0.AVX is off
  u32 avx = cpuid_bit(1, 0, 2, 28) ? 7 : 3;
  asm volatile("xsetbv" ::"a"(avx), "d"(0), "c"(0));
  u32 lo, hi;
  asm volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  EXPECT_EQ(lo, avx);
  u32 r[4];
  cpuid(13, 0, r);
  EXPECT_EQ(r[1], avx == 7 ? 832 : 576);
  if (avx == 7) {
    c = kernel_context(avx_code);
    EXPECT_EQ(run(&c), BP);
    memset(area, 0, sizeof area);
    asm volatile("vmovdqu %1, %%ymm3; xsave64 %0" : "+m"(area) : "m"(pattern), "a"(7), "d"(0));
    EXPECT_EQ(*(u64*)(area + 512) & 4, 4);  // XSTATE_BV: AVX in use
    EXPECT_EQ(*(u64*)(area + 576 + 3 * 16), *(u64*)(pattern + 16));
    asm volatile("vpxor %%ymm3, %%ymm3, %%ymm3; xrstor64 %0; vmovdqu %%ymm3, %1"
                 : "+m"(area), "=m"(other)
                 : "a"(7), "d"(0));
    EXPECT_EQ(*(u64*)(other + 24), *(u64*)(pattern + 24));
    *(u64*)(area + 512) = 3;  // AVX component absent: the upper halves become zero
    asm volatile("xrstor64 %0; vmovdqu %%ymm3, %1" : "+m"(area), "=m"(other) : "a"(7), "d"(0));
    EXPECT_EQ(*(u64*)(other + 24), 0);
    // Legacy SSE keeps the upper half, VEX.128 clears it.
    asm volatile("vmovdqu %1, %%ymm4; paddd %%xmm4, %%xmm4; vmovdqu %%ymm4, %0" : "=m"(other) : "m"(pattern));
    EXPECT_EQ(*(u64*)(other + 16), *(u64*)(pattern + 16));
    asm volatile("vmovdqu %1, %%ymm4; vpaddd %%xmm4, %%xmm4, %%xmm4; vmovdqu %%ymm4, %0"
                 : "=m"(other)
                 : "m"(pattern));
    EXPECT_EQ(*(u64*)(other + 16), 0);
  }
  *(u64*)(area + 512) = 1 << 3;  // a component XCR0 lacks
  c = kernel_context(xrstor_code);
  c.di = (word)area;
  c.ax = 7;
  EXPECT_EQ(run(&c), GP);
  *(u64*)(area + 512) = 1;
  *(u64*)(area + 528) = 1;  // reserved header bytes
  c = kernel_context(xrstor_code);
  c.di = (word)area;
  c.ax = 7;
  EXPECT_HW_EQ(run(&c), GP);
  c = kernel_context(xsave_code);
  c.di = (word)area + 16;  // needs 64-byte alignment
  EXPECT_EQ(run(&c), GP);
  return 0;
}
