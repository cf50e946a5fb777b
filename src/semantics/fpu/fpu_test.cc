#include "semantics/fpu/fpu_state.h"

#include <cmath>
#include <random>

#include "semantics/vcpu_for_test.h"

namespace deja {
namespace {

constexpr u64 kArea = 0x1000;  // where the instructions' memory operand is: [rax]

class Fpu : public HelperTest {
 protected:
  Fpu() { state.gpr[RAX] = kArea; }
  std::optional<GuestFault> run(std::initializer_list<u8> code) {
    return HelperTest::run(find_fpu_helper, code);
  }

  FpuState random_state() {
    FpuState f;
    for (auto& r : f.st)
      for (unsigned i = 0; i < 10; ++i) r[i] = static_cast<u8>(rng());
    for (auto& r : f.ymm)
      for (u8& b : r) b = static_cast<u8>(rng());
    // Values of every class.
    for (auto& r : f.st) {
      if (rng() % 4 == 0) std::memset(r, 0, 10);
      if (rng() % 4 == 0) std::memset(r + 8, rng() & 1 ? 0xff : 0, 2);
      if (rng() % 2 == 0) r[7] |= 0x80;
    }
    f.fcw = static_cast<u16>(rng());
    f.fsw = static_cast<u16>(rng());
    f.ftw = static_cast<u8>(rng());
    f.mxcsr = rng() & 0xffff;
    x87_normalize(f);
    return f;
  }

  u8* area(unsigned offset = 0) { return &mmu.bytes[kArea + offset]; }
  u32 word(unsigned offset) {
    u32 v;
    std::memcpy(&v, area(offset), 4);
    return v;
  }
  void set_ymm(unsigned reg, const void* data) { std::memcpy(state.fpu.ymm[reg], data, 32); }

  std::mt19937 rng{1234};
};

void expect_same(const FpuState& a, const FpuState& b) {
  EXPECT_EQ(a.fcw, b.fcw);
  EXPECT_EQ(a.fsw, b.fsw);
  EXPECT_EQ(a.ftw, b.ftw);
  EXPECT_EQ(a.mxcsr, b.mxcsr);
  for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(std::memcmp(a.st[i], b.st[i], 16), 0) << "ST" << i;
  for (unsigned i = 0; i < 16; ++i) EXPECT_EQ(std::memcmp(a.ymm[i], b.ymm[i], 32), 0) << "YMM" << i;
}

// FIP, FDP, FOP of an FXSAVE image, which the host fills with its own.
void clear_pointers(u8* image) {
  std::memset(image + 6, 0, 2);
  std::memset(image + 8, 0, 16);
}

// Leaves the host as C++ wants it.
void reset_host() {
  const u32 mxcsr = kMxcsrInit;
  asm volatile("fninit; ldmxcsr %0" : : "m"(mxcsr));
}

bool avx2() { return __builtin_cpu_supports("avx2"); }

TEST_F(Fpu, HostRegistersRoundTrip) {
  for (int i = 0; i < 200; ++i) {
    const FpuState f = random_state();
    FpuState g;
    host_fpu_load(f);
    host_fpu_save(g);
    reset_host();
    if (!__builtin_cpu_supports("avx"))
      for (unsigned r = 0; r < 16; ++r) std::memcpy(g.ymm[r] + 16, f.ymm[r] + 16, 16);
    expect_same(f, g);
  }
}

TEST_F(Fpu, X87AloneLeavesVectorRegisters) {
  const FpuState f = random_state(), h = random_state();
  FpuState g, x;
  host_fpu_load(f);
  host_x87_load(h);
  host_x87_save(x);
  host_fpu_save(g);
  reset_host();
  FpuState expected = h;
  std::memcpy(expected.ymm, f.ymm, sizeof f.ymm);
  expect_same(g, expected);
  EXPECT_EQ(x.ymm[3][3], 0);
  std::memset(expected.ymm, 0, sizeof expected.ymm);
  expect_same(x, expected);
}

TEST_F(Fpu, FxsaveMatchesTheHost) {
  for (int i = 0; i < 200; ++i) {
    state.fpu = random_state();
    alignas(64) u8 image[512] = {};
    host_fpu_load(state.fpu);
    asm volatile("fxsave64 %0" : "=m"(image));
    reset_host();
    clear_pointers(image);
    std::memcpy(image + 28, &kMxcsrMask, 4);
    std::memset(area(), 0xaa, 600);
    ASSERT_FALSE(run({0x48, 0x0f, 0xae, 0x00}).has_value());
    EXPECT_EQ(std::memcmp(area(), image, 416), 0);
    for (unsigned j = 416; j < 600; ++j) ASSERT_EQ(*area(j), 0xaa);
  }
}

TEST_F(Fpu, FxrstorMatchesTheHost) {
  for (int i = 0; i < 200; ++i) {
    alignas(64) u8 image[512];
    for (u8& b : image) b = static_cast<u8>(rng());
    clear_pointers(image);
    std::memset(image + 26, 0, 2);
    std::memcpy(area(), image, 512);
    FpuState native;
    host_fpu_load(native);
    asm volatile("fxrstor64 %0" : : "m"(image));
    host_fpu_save(native);
    reset_host();
    ASSERT_FALSE(run({0x48, 0x0f, 0xae, 0x08}).has_value());
    expect_same(state.fpu, native);
    EXPECT_EQ(fpu_commits, i + 1);
    std::memset(state.fpu.ymm, 0, sizeof state.fpu.ymm);
  }
}

TEST_F(Fpu, FxsaveFaults) {
  EXPECT_FALSE(run({0x0f, 0xae, 0x00}).has_value());
  state.gpr[RAX] = kArea + 8;
  EXPECT_FAULT(run({0x0f, 0xae, 0x00}), kGP);
  EXPECT_FAULT(run({0x0f, 0xae, 0x08}), kGP);
  state.gpr[RAX] = kArea;
  *area(26) = 1;  // a reserved bit of MXCSR
  EXPECT_FAULT(run({0x0f, 0xae, 0x08}), kGP);
  state.cr0 |= cr0bit::EM;
  EXPECT_FAULT(run({0x0f, 0xae, 0x00}), kNM);
  state.cr0 ^= cr0bit::EM | cr0bit::TS;
  EXPECT_FAULT(run({0x0f, 0xae, 0x08}), kNM);
}

TEST_F(Fpu, OutsideSixtyFourBitModeOnlyEightVectorRegisters) {
  set_legacy_mode(CodeSize::bits32);
  state.fpu = random_state();
  std::memset(area(), 0x55, 512);
  ASSERT_FALSE(run({0x0f, 0xae, 0x00}).has_value());
  EXPECT_EQ(std::memcmp(area(160 + 7 * 16), state.fpu.ymm[7], 16), 0);
  EXPECT_EQ(*area(160 + 8 * 16), 0x55);
}

// The environment instructions against the host's, for random states and images.
TEST_F(Fpu, EnvironmentsMatchTheHost) {
  for (int i = 0; i < 300; ++i) {
    u8 native[108] = {};
    FpuState after;
    // FNSTENV, 32-bit format.
    state.fpu = random_state();
    host_x87_load(state.fpu);
    asm volatile("fnstenv %0" : "=m"(native));
    host_x87_save(after);
    reset_host();
    std::memset(native + 12, 0, 14);
    std::memcpy(after.ymm, state.fpu.ymm, sizeof after.ymm);
    ASSERT_FALSE(run({0xd9, 0x30}).has_value());
    EXPECT_EQ(std::memcmp(area(), native, 28), 0);
    expect_same(state.fpu, after);
    // FNSAVE, 16-bit format.
    state.fpu = random_state();
    host_x87_load(state.fpu);
    asm volatile("data16 fnsave %0" : "=m"(native));
    host_x87_save(after);
    reset_host();
    std::memset(native + 6, 0, 8);
    std::memcpy(after.ymm, state.fpu.ymm, sizeof after.ymm);
    ASSERT_FALSE(run({0x66, 0xdd, 0x30}).has_value());
    EXPECT_EQ(std::memcmp(area(), native, 94), 0);
    expect_same(state.fpu, after);
    // FLDENV and FRSTOR of random bytes.
    for (const bool whole : {false, true}) {
      for (u8& b : native) b = static_cast<u8>(rng());
      std::memset(native + 12, 0, 16);
      std::memcpy(area(), native, 108);
      state.fpu = random_state();
      state.fpu.fcw |= 0x3f;  // waiting instructions: nothing may be pending
      x87_normalize(state.fpu);
      host_x87_load(state.fpu);
      if (whole)
        asm volatile("frstor %0" : : "m"(native));
      else
        asm volatile("fldenv %0" : : "m"(native));
      host_x87_save(after);
      reset_host();
      std::memcpy(after.ymm, state.fpu.ymm, sizeof after.ymm);
      if (whole)
        ASSERT_FALSE(run({0xdd, 0x20}).has_value());
      else
        ASSERT_FALSE(run({0xd9, 0x20}).has_value());
      expect_same(state.fpu, after);
    }
    if (HasFailure()) return;
  }
}

TEST_F(Fpu, LoadingAnEnvironmentWaitsForPendingExceptions) {
  state.fpu.fcw = 0x37e;
  state.fpu.fsw = fsw::IE | fsw::ES | fsw::B;
  EXPECT_FAULT(run({0xd9, 0x20}), kMF);
  EXPECT_FAULT(run({0xdd, 0x20}), kMF);
  EXPECT_FALSE(run({0xd9, 0x30}).has_value());
  EXPECT_EQ(word(4) & 0xffff, u32{fsw::IE | fsw::ES | fsw::B});
  EXPECT_EQ(state.fpu.fsw, fsw::IE);  // masked now
}

TEST_F(Fpu, StoreThatFaultsChangesNothing) {
  mmu.kinds[2] = PageKind::read_only;
  state.gpr[RAX] = 0x1ff0;
  state.fpu = random_state();
  const FpuState before = state.fpu;
  EXPECT_FAULT(run({0xdd, 0x30}), kPF);
  EXPECT_FAULT(run({0xd9, 0x30}), kPF);
  EXPECT_FAULT(run({0x0f, 0xae, 0x20}), kGP);  // XSAVE, misaligned
  expect_same(state.fpu, before);
  EXPECT_EQ(mmu.bytes[0x1ff0], 0);
}

TEST_F(Fpu, XsaveWritesRequestedComponents) {
  state.fpu = random_state();
  std::memset(area(), 0xaa, 832);
  u64 bv = 1 << 1;
  std::memcpy(area(512), &bv, 8);
  state.gpr[RDX] = 0;
  state.gpr[RAX] = kArea | 4;  // not usable as an address: take RBX
  state.gpr[RBX] = kArea;
  ASSERT_FALSE(run({0x0f, 0xae, 0x23}).has_value());
  std::memcpy(&bv, area(512), 8);
  EXPECT_EQ(bv, 6u);
  EXPECT_EQ(*area(0), 0xaa);
  EXPECT_EQ(*area(160), 0xaa);
  EXPECT_EQ(word(24), state.fpu.mxcsr);  // MXCSR goes with AVX too
  for (unsigned i = 0; i < 16; ++i) EXPECT_EQ(std::memcmp(area(576 + 16 * i), state.fpu.ymm[i] + 16, 16), 0);
  EXPECT_EQ(*area(520), 0xaa);  // the header is written no further
}

TEST_F(Fpu, XrstorMatchesTheHost) {
  if (!avx2()) GTEST_SKIP() << "the host has no AVX2";
  state.gpr[RBX] = kArea;
  for (int i = 0; i < 400; ++i) {
    alignas(64) u8 image[832];
    for (u8& b : image) b = static_cast<u8>(rng());
    clear_pointers(image);
    std::memset(image + 26, 0, 2);
    std::memset(image + 512, 0, 64);
    image[512] = rng() & 7;
    const u32 mask = rng() & 7;
    std::memcpy(area(), image, 832);
    state.fpu = random_state();
    FpuState native = state.fpu;
    host_fpu_load(state.fpu);
    asm volatile("xrstor64 %0" : : "m"(image), "a"(mask), "d"(0));
    host_fpu_save(native);
    reset_host();
    state.gpr[RAX] = mask;
    state.gpr[RDX] = 0;
    ASSERT_FALSE(run({0x48, 0x0f, 0xae, 0x2b}).has_value());
    expect_same(state.fpu, native);
    if (HasFailure()) {
      ADD_FAILURE() << "mask " << mask << " XSTATE_BV " << int{image[512]};
      return;
    }
  }
}

TEST_F(Fpu, XrstorChecksItsHeader) {
  state.gpr[RBX] = kArea;
  state.gpr[RAX] = 7;
  EXPECT_FALSE(run({0x0f, 0xae, 0x2b}).has_value());
  for (const unsigned offset : {513u, 520u, 527u, 528u, 535u}) {
    *area(offset) = 0x80;
    EXPECT_FAULT(run({0x0f, 0xae, 0x2b}), kGP);
    *area(offset) = 0;
  }
  *area(27) = 1;  // MXCSR
  EXPECT_FAULT(run({0x0f, 0xae, 0x2b}), kGP);
  state.gpr[RAX] = 1;
  EXPECT_FALSE(run({0x0f, 0xae, 0x2b}).has_value());
  state.xcr0 = 3;
  *area(512) = 4;
  EXPECT_FAULT(run({0x0f, 0xae, 0x2b}), kGP);
  state.cr4 &= ~cr4bit::OSXSAVE;
  EXPECT_FAULT(run({0x0f, 0xae, 0x2b}), kUD);
}

TEST_F(Fpu, Mxcsr) {
  state.fpu.mxcsr = 0x9fc0;
  ASSERT_FALSE(run({0x0f, 0xae, 0x18}).has_value());
  EXPECT_EQ(word(0), 0x9fc0u);
  const u32 value = 0x1f00;
  std::memcpy(area(), &value, 4);
  ASSERT_FALSE(run({0xc5, 0xf8, 0xae, 0x10}).has_value());
  EXPECT_EQ(state.fpu.mxcsr, 0x1f00u);
  EXPECT_EQ(fpu_commits, 1);
  *area(2) = 1;
  EXPECT_FAULT(run({0x0f, 0xae, 0x10}), kGP);
  state.cr4 &= ~cr4bit::OSFXSR;
  EXPECT_FAULT(run({0x0f, 0xae, 0x10}), kUD);
  state.xcr0 = 3;
  EXPECT_FAULT(run({0xc5, 0xf8, 0xae, 0x10}), kUD);
}

TEST_F(Fpu, MaskmovqWritesChosenBytesAndEntersMmxState) {
  state.fpu = random_state();
  state.fpu.fcw = 0x37f;
  state.fpu.fsw = 3 << fsw::kTopShift;
  state.fpu.ftw = 0;
  // MMi is physical register i, that is ST((i - TOP) & 7).
  u8* mm0 = state.fpu.st[(0 - 3) & 7];
  u8* mm1 = state.fpu.st[(1 - 3) & 7];
  const u64 data = 0x8877665544332211, mask = 0x8000'0080'ff00'0080;
  std::memcpy(mm0, &data, 8);
  std::memcpy(mm1, &mask, 8);
  state.gpr[RDI] = kArea;
  ASSERT_FALSE(run({0x0f, 0xf7, 0xc1}).has_value());
  EXPECT_EQ(word(0), 0x44000011u);
  EXPECT_EQ(word(4), 0x88000055u);
  EXPECT_EQ(state.fpu.ftw, 0xff);
  EXPECT_EQ(x87_top(state.fpu), 0u);
  EXPECT_EQ(std::memcmp(state.fpu.st[0], &data, 8), 0);
}

TEST_F(Fpu, MaskmovdquSkipsWhatTheMaskLeavesOut) {
  u8 data[32] = {}, mask[32] = {};
  for (unsigned i = 0; i < 16; ++i) data[i] = static_cast<u8>(0x10 + i);
  for (unsigned i = 0; i < 8; ++i) mask[i] = 0x80;
  set_ymm(0, data);
  set_ymm(1, mask);
  state.gpr[RDI] = 0x1ff8;
  mmu.bytes[0x2000] = 0x55;
  ASSERT_FALSE(run({0x66, 0x0f, 0xf7, 0xc1}).has_value());
  EXPECT_EQ(mmu.bytes[0x1fff], 0x17);
  EXPECT_EQ(mmu.bytes[0x2000], 0x55);
  // Both halves must be writable, whatever the mask, and the upper one is looked at first.
  mmu.kinds[2] = PageKind::absent;
  mmu.bytes[0x1fff] = 0;
  const auto fault = run({0x66, 0x0f, 0xf7, 0xc1});
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->vector, kPF);
  EXPECT_EQ(fault->cr2, 0x2000u);
  EXPECT_EQ(mmu.bytes[0x1fff], 0);
}

TEST_F(Fpu, MaskedLoadsAndStores) {
  mmu.kinds[2] = PageKind::absent;
  state.gpr[RAX] = 0x1ff0;
  const u32 mask[8] = {0x80000000, 0, 0x80000001, 0x7fffffff, 0, 0, 0, 0};
  set_ymm(1, mask);
  for (unsigned i = 0; i < 16; ++i) mmu.bytes[0x1ff0 + i] = static_cast<u8>(i + 1);
  std::memset(state.fpu.ymm[0], 0xee, 32);
  ASSERT_FALSE(run({0xc4, 0xe2, 0x75, 0x2c, 0x00}).has_value());  // VMASKMOVPS ymm0, ymm1, [rax]
  const u32 loaded[8] = {0x04030201, 0, 0x0c0b0a09, 0, 0, 0, 0, 0};
  EXPECT_EQ(std::memcmp(state.fpu.ymm[0], loaded, 32), 0);
  const u32 values[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  set_ymm(0, values);
  ASSERT_FALSE(run({0xc4, 0xe2, 0x75, 0x8e, 0x00}).has_value());  // VPMASKMOVD [rax], ymm1, ymm0
  const u32 stored[4] = {1, 0x08070605, 3, 0x100f0e0d};
  EXPECT_EQ(std::memcmp(&mmu.bytes[0x1ff0], stored, 16), 0);
  const u32 all[8] = {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u};
  set_ymm(1, all);
  EXPECT_FAULT(run({0xc4, 0xe2, 0x75, 0x8c, 0x00}), kPF);
  EXPECT_EQ(std::memcmp(state.fpu.ymm[0], values, 32), 0);
}

TEST_F(Fpu, MaskedOperandWithA32BitAddressReachesBeyond4GiB) {
  state.gpr[RAX] = 0xfffffffc;
  const u32 mask[8] = {0, ~0u, 0, 0, 0, 0, 0, 0};
  set_ymm(1, mask);
  const auto fault = run({0x67, 0xc4, 0xe2, 0x75, 0x2c, 0x00});  // VMASKMOVPS ymm0, ymm1, [eax]
  ASSERT_TRUE(fault.has_value());
  EXPECT_EQ(fault->vector, kPF);
  EXPECT_EQ(fault->cr2, 0x100000000u);
}

// Every gather over random indices and masks against the host's instruction.
TEST_F(Fpu, GathersMatchTheHost) {
  if (!avx2()) GTEST_SKIP() << "the host has no AVX2";
  for (u8& b : mmu.bytes) b = static_cast<u8>(rng());
  for (int i = 0; i < 400; ++i) {
    FpuState f = random_state();
    f.fcw = 0x37f;
    x87_normalize(f);
    f.mxcsr = kMxcsrInit;
    const bool wide = rng() & 1, quad_index = rng() & 1, quad_data = rng() & 1;
    for (unsigned e = 0; e < 8; ++e) {
      const i32 index = static_cast<i32>(rng() % 200) - 100;
      if (quad_index) {
        const i64 index64 = index;
        if (e < 4) std::memcpy(f.ymm[2] + 8 * e, &index64, 8);
      } else {
        std::memcpy(f.ymm[2] + 4 * e, &index, 4);
      }
    }
    state.fpu = f;
    state.gpr[RAX] = 0x5000;
    const u8* base = &mmu.bytes[0x5000];
    FpuState native = f;
    host_fpu_load(f);
    switch ((quad_index ? 4 : 0) | (quad_data ? 2 : 0) | wide) {
      case 0:
        asm volatile("vpgatherdd %%xmm1, (%0,%%xmm2,4), %%xmm0" : : "r"(base) : "memory");
        break;
      case 1:
        asm volatile("vpgatherdd %%ymm1, (%0,%%ymm2,4), %%ymm0" : : "r"(base) : "memory");
        break;
      case 2:
        asm volatile("vpgatherdq %%xmm1, (%0,%%xmm2,4), %%xmm0" : : "r"(base) : "memory");
        break;
      case 3:
        asm volatile("vpgatherdq %%ymm1, (%0,%%xmm2,4), %%ymm0" : : "r"(base) : "memory");
        break;
      case 4:
        asm volatile("vpgatherqd %%xmm1, (%0,%%xmm2,4), %%xmm0" : : "r"(base) : "memory");
        break;
      case 5:
        asm volatile("vpgatherqd %%xmm1, (%0,%%ymm2,4), %%xmm0" : : "r"(base) : "memory");
        break;
      case 6:
        asm volatile("vpgatherqq %%xmm1, (%0,%%xmm2,4), %%xmm0" : : "r"(base) : "memory");
        break;
      default:
        asm volatile("vpgatherqq %%ymm1, (%0,%%ymm2,4), %%ymm0" : : "r"(base) : "memory");
        break;
    }
    host_fpu_save(native);
    reset_host();
    // VPGATHER ymm0/xmm0, [rax + ymm2 * 4], ymm1
    const u8 third = static_cast<u8>((quad_data ? 0x80 : 0) | 0x71 | (wide ? 4 : 0));
    ASSERT_FALSE(run({0xc4, 0xe2, third, static_cast<u8>(quad_index ? 0x91 : 0x90), 0x04, 0x90}).has_value());
    expect_same(state.fpu, native);
    if (HasFailure()) return;
  }
}

TEST_F(Fpu, GatherRestartsAfterAFault) {
  mmu.kinds[3] = PageKind::absent;
  const u32 indices[8] = {0, 1, 2, 3 * 1024 / 2, 4, 5, 6, 7};
  const u32 mask[8] = {1u << 31, 0x7fffffff, ~0u, 1u << 31, 1u << 31, 0, ~0u, ~0u};
  for (unsigned i = 0; i < 4; ++i) mmu.bytes[0x2000 + 4 * i] = static_cast<u8>(i + 1);
  set_ymm(1, mask);
  set_ymm(2, indices);
  state.gpr[RAX] = 0x2000;
  EXPECT_FAULT(run({0xc4, 0xe2, 0x75, 0x90, 0x04, 0x90}), kPF);
  const u32 rest[8] = {0, 0, 0, ~0u, ~0u, 0, ~0u, ~0u};
  EXPECT_EQ(std::memcmp(state.fpu.ymm[1], rest, 32), 0);
  const u32 done[4] = {1, 0, 3, 0};
  EXPECT_EQ(std::memcmp(state.fpu.ymm[0], done, 16), 0);
  EXPECT_EQ(fpu_commits, 1);
  mmu.kinds.clear();
  EXPECT_FALSE(run({0xc4, 0xe2, 0x75, 0x90, 0x04, 0x90}).has_value());
  const u32 zero[8] = {};
  EXPECT_EQ(std::memcmp(state.fpu.ymm[1], zero, 32), 0);
}

class Approximations : public Fpu {
 protected:
  // RCPPS/RSQRTPS xmm0, xmm1 of one value.
  u32 approximate(bool root, u32 x) {
    std::memcpy(state.fpu.ymm[1], &x, 4);
    if (root)
      EXPECT_FALSE(run({0x0f, 0x52, 0xc1}).has_value());
    else
      EXPECT_FALSE(run({0x0f, 0x53, 0xc1}).has_value());
    u32 r;
    std::memcpy(&r, state.fpu.ymm[0], 4);
    return r;
  }
};

TEST_F(Approximations, SpecialValues) {
  const u32 inf = 0x7f800000, sign = 0x80000000;
  for (const bool root : {false, true}) {
    EXPECT_EQ(approximate(root, 0), inf);
    EXPECT_EQ(approximate(root, sign), inf | sign);
    EXPECT_EQ(approximate(root, 0x007fffff), inf);  // denormal
    EXPECT_EQ(approximate(root, inf), 0u);
    EXPECT_EQ(approximate(root, 0x7f800001), 0x7fc00001u);
    EXPECT_EQ(approximate(root, 0xffc00123), 0xffc00123u);
  }
  EXPECT_EQ(approximate(false, inf | sign), sign);
  EXPECT_EQ(approximate(false, 0x7e800000), 0x00800000u);  // 2^126
  EXPECT_EQ(approximate(false, 0x7e800001), 0u);           // a denormal result
  EXPECT_EQ(approximate(false, 0xbf800000), 0xbf800000u);
  EXPECT_EQ(approximate(true, inf | sign), 0xffc00000u);
  EXPECT_EQ(approximate(true, 0xbf800000), 0xffc00000u);
  EXPECT_EQ(approximate(true, 0x40800000), 0x3f000000u);
}

TEST_F(Approximations, RelativeErrorIsBounded) {
  for (int i = 0; i < 20000; ++i) {
    const u32 x = rng() % 0x7e000000 + 0x00800000;
    float f, r, s;
    std::memcpy(&f, &x, 4);
    const u32 a = approximate(false, x), b = approximate(true, x);
    std::memcpy(&r, &a, 4);
    std::memcpy(&s, &b, 4);
    if (x < 0x7e800000) {
      ASSERT_LT(std::abs(double{r} * f - 1), 6.0e-8);
    }
    ASSERT_LT(std::abs(double{s} * s * f - 1), 1.2e-7);
  }
}

TEST_F(Approximations, Forms) {
  const u32 source[8] = {0x40000000, 0x40800000, 0x3f800000, 0x3f000000,
                         0x41000000, 0,          0x7f800000, 0x40000000};
  std::memcpy(area(), source, 32);
  std::memset(state.fpu.ymm[0], 0x11, 32);
  ASSERT_FALSE(run({0xc5, 0xfc, 0x53, 0x00}).has_value());  // VRCPPS ymm0, [rax]
  const u32 all[8] = {0x3f000000, 0x3e800000, 0x3f800000, 0x40000000, 0x3e000000, 0x7f800000, 0, 0x3f000000};
  EXPECT_EQ(std::memcmp(state.fpu.ymm[0], all, 32), 0);
  ASSERT_FALSE(run({0xf3, 0x0f, 0x53, 0x40, 0x04}).has_value());  // RCPSS xmm0, [rax + 4]: the rest stays
  EXPECT_EQ(std::memcmp(state.fpu.ymm[0] + 4, all + 1, 28), 0);
  EXPECT_EQ(std::memcmp(state.fpu.ymm[0], all + 1, 4), 0);
  std::memset(state.fpu.ymm[3], 0x22, 32);
  ASSERT_FALSE(run({0xc5, 0xe2, 0x52, 0x40, 0x04}).has_value());  // VRSQRTSS xmm0, xmm3, [rax + 4]
  const u32 scalar[8] = {0x3f000000, 0x22222222, 0x22222222, 0x22222222, 0, 0, 0, 0};
  EXPECT_EQ(std::memcmp(state.fpu.ymm[0], scalar, 32), 0);
  state.gpr[RAX] = kArea + 4;
  EXPECT_FAULT(run({0x0f, 0x53, 0x00}), kGP);
  EXPECT_FALSE(run({0xc5, 0xf8, 0x53, 0x00}).has_value());
}

}  // namespace
}  // namespace deja
