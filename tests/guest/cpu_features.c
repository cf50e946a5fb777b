// Features that are added to a CPU model: CPUID says what there is, what it does not say raises #UD.
#include "runtime.h"

static struct Context c;
CODE(adcx_code, "stc; .byte 0x66, 0x48, 0x0f, 0x38, 0xf6, 0xc3");             // adcx rax, rbx
CODE(adox_code, "xor %edx, %edx; .byte 0xf3, 0x48, 0x0f, 0x38, 0xf6, 0xc3");  // adox rax, rbx
CODE(sha_code,
     "pxor %xmm0, %xmm0; pxor %xmm1, %xmm1; movq %rax, %xmm1; .byte 0x0f, 0x38, 0xc8, 0xc1; "  // sha1nexte
     "movq %xmm0, %rax");
CODE(sha_load, ".byte 0x0f, 0x38, 0xc8, 0x06");  // sha1nexte xmm0, [rsi]

static int start(void* code) {
  c = kernel_context(code);
  c.ax = ~0ul;
  c.bx = 2;
  return run(&c);
}

static void put_feature(const char* name, int has) {
  put_string(name);
  put_string(has ? " 1 " : " 0 ");
}

int main(void) {
  const int adx = cpuid_bit(7, 0, 1, 19), sha = cpuid_bit(7, 0, 1, 29);
  write_cr4(read_cr4() | 0x600);  // OSFXSR, OSXMMEXCPT
  write_cr0(read_cr0() & ~12ul);  // EM, TS
  for (int turn = 0; turn < 20; turn++) {
    EXPECT_EQ(start(adcx_code), adx ? BP : UD);
    EXPECT_EQ(c.ax, adx ? 2 : ~0ul);
    EXPECT_EQ(start(adox_code), adx ? BP : UD);
    EXPECT_EQ(c.ax, adx ? 1 : ~0ul);
    EXPECT_EQ(start(sha_code), sha ? BP : UD);
    EXPECT_EQ(c.ax, ~0ul);
  }
  // The operand is aligned, and device-not-available comes with the feature only.
  c = kernel_context(sha_load);
  c.si = (word)&c + 8 - ((word)&c & 15);
  EXPECT_EQ(run(&c), sha ? GP : UD);
  write_cr0(read_cr0() | 8);  // TS
  EXPECT_EQ(start(sha_load), sha ? NM : UD);
  EXPECT_EQ(start(adcx_code), adx ? BP : UD);
  write_cr0((read_cr0() & ~8ul) | 4);  // EM
  EXPECT_EQ(start(sha_load), UD);
  put_feature("adx", adx);
  put_feature("sha-ni", sha);
  put_string("\n");
  return 0;
}
