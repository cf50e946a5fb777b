#include "guest/cpu_model.h"

#include <gtest/gtest.h>

#include <string>

namespace deja {
namespace {

std::string text(std::initializer_list<u32> registers) {
  std::string s;
  for (const u32 r : registers) s.append(reinterpret_cast<const char*>(&r), 4);
  return s;
}

class CpuModelTest : public ::testing::Test {
 protected:
  CpuModelTest() { reset_cpu(state, 0); }
  CpuidRegs leaf(u32 number, u32 subleaf = 0) { return cpuid(v3, state, vcpus, number, subleaf); }
  const CpuModel v3 = *parse_cpu_model("x86-64-v3");
  const CpuModel v2 = *parse_cpu_model("x86-64-v2");
  CpuState state;
  unsigned vcpus = 1;
};

TEST_F(CpuModelTest, Names) {
  EXPECT_EQ(cpu_model_names(), "x86-64-v3 x86-64-v2");
  for (const auto& [text, name] : std::initializer_list<std::pair<const char*, const char*>>{
           {"x86-64-v3", "x86-64-v3"},
           {"x86-64-v2,+sha-ni", "x86-64-v2,+sha-ni"},
           {"x86-64-v3,+sha-ni,+adx", "x86-64-v3,+adx,+sha-ni"},
           {"x86-64-v3,+adx,+adx", "x86-64-v3,+adx"},
           {"x86-64-v3,adx=on,sha-ni=off", "x86-64-v3,+adx"},
           {"x86-64-v3,+adx,-adx", "x86-64-v3"},
           {"x86-64-v3,sha-ni", "x86-64-v3,+sha-ni"}}) {
    const auto model = parse_cpu_model(text);
    ASSERT_TRUE(model.ok()) << model.error().message;
    EXPECT_EQ(model.value().name, name) << text;
    EXPECT_EQ(parse_cpu_model(name)->name, name);
  }
  for (const auto& [text, words] : std::initializer_list<std::pair<const char*, const char*>>{
           {"host", "there are: x86-64-v3 x86-64-v2"},
           {"", "there are: x86-64-v3 x86-64-v2"},
           {"x86-64-v3,+avx512f", "no feature \"avx512f\" can be added to x86-64-v3; there are: adx sha-ni"},
           {"x86-64-v3,+sha_ni", "no feature \"sha_ni\""},
           {"x86-64-v3,+", "no feature \"\""},
           {"x86-64-v3,,+adx", "no feature \"\""},
           {"x86-64-v3,adx=maybe", "no feature \"adx=maybe\""}}) {
    const auto model = parse_cpu_model(text);
    ASSERT_FALSE(model.ok()) << text;
    EXPECT_NE(model.error().message.find(words), std::string::npos) << model.error().message;
  }
}

TEST_F(CpuModelTest, FeaturesShowInLeaf7AndNowhereElse) {
  const CpuModel more = *parse_cpu_model("x86-64-v3,+adx,+sha-ni");
  for (const u32 number : {0u, 1u, 7u, 0xdu, 0x80000001u, 0x80000002u}) {
    const CpuidRegs plain = leaf(number), with = cpuid(more, state, vcpus, number, 0);
    EXPECT_EQ(with.eax, plain.eax);
    EXPECT_EQ(with.ebx, plain.ebx | (number == 7 ? 1u << 19 | 1u << 29 : 0));
    EXPECT_EQ(with.ecx, plain.ecx);
    EXPECT_EQ(with.edx, plain.edx);
  }
}

TEST_F(CpuModelTest, VendorAndHypervisor) {
  const CpuidRegs basic = leaf(0);
  EXPECT_EQ(basic.eax, 0x16u);
  EXPECT_EQ(text({basic.ebx, basic.edx, basic.ecx}), "GenuineIntel");
  const CpuidRegs hypervisor = leaf(0x40000000);
  EXPECT_EQ(text({hypervisor.ebx, hypervisor.ecx, hypervisor.edx}), "DejaVMDejaVM");
  EXPECT_EQ(leaf(0x40000100).eax, 0u);
  EXPECT_EQ(leaf(0x17).eax, leaf(0x16).eax);
}

TEST_F(CpuModelTest, TimerFrequencies) {
  const CpuidRegs r = leaf(0x15);
  ASSERT_NE(r.eax, 0u);
  EXPECT_EQ(u64{r.ecx} * r.ebx / r.eax, v3.tsc_hz);
  EXPECT_EQ(leaf(0x16).eax, 1000u);
}

TEST_F(CpuModelTest, LevelsOfThePsAbi) {
  const u32 v2_ecx = 1 << 0 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23;
  const u32 v3_ecx = v2_ecx | 1 << 12 | 1 << 22 | 1 << 28 | 1 << 29;
  EXPECT_EQ(leaf(1).ecx & v3_ecx, v3_ecx);
  EXPECT_EQ(cpuid(v2, state, 1, 1, 0).ecx & v3_ecx, v2_ecx);
  const u32 v3_ebx = 1 << 3 | 1 << 5 | 1 << 8;
  EXPECT_EQ(leaf(7).ebx & v3_ebx, v3_ebx);
  EXPECT_EQ(cpuid(v2, state, 1, 7, 0).ebx & v3_ebx, 0u);
  EXPECT_EQ(leaf(0x80000001).ecx & 0x21, 0x21u);
  EXPECT_FALSE(leaf(1).ecx & 1 << 30) << "no RDRAND";
}

TEST_F(CpuModelTest, ReflectsState) {
  EXPECT_FALSE(leaf(1).ecx & 1 << 27);
  state.cr4 |= cr4bit::OSXSAVE;
  EXPECT_TRUE(leaf(1).ecx & 1 << 27);
  EXPECT_EQ(leaf(0xd).ebx, 576u);
  state.xcr0 = 7;
  EXPECT_EQ(leaf(0xd).ebx, 832u);
  EXPECT_TRUE(leaf(1).edx & 1 << 9);
  state.msr.apic_base &= ~u64{1 << 11};
  EXPECT_FALSE(leaf(1).edx & 1 << 9);
}

TEST_F(CpuModelTest, Topology) {
  vcpus = 3;
  state.index = 2;
  EXPECT_EQ(leaf(1).ebx >> 24, 2u);
  EXPECT_EQ(leaf(0xb, 1).eax, 2u);
  EXPECT_EQ(leaf(0xb, 1).ebx, 3u);
  EXPECT_EQ(leaf(0xb, 1).edx, 2u);
  EXPECT_EQ(leaf(0xb, 2).ecx, 2u);
  EXPECT_EQ(leaf(4, 0).eax >> 26, 3u);
}

TEST_F(CpuModelTest, ResetAndInit) {
  EXPECT_EQ(state.rip, 0xfff0u);
  EXPECT_EQ(state.seg[CS].base, 0xffff0000u);
  EXPECT_EQ(state.cr0, 0x60000010u);
  EXPECT_EQ(state.activity, Activity::running);
  CpuState ap;
  reset_cpu(ap, 1);
  EXPECT_EQ(ap.activity, Activity::wait_for_sipi);
  EXPECT_EQ(ap.msr.apic_base, 0xfee00800u);
  ap.cr0 = cr0bit::PE | cr0bit::PG | cr0bit::ET;
  ap.cr3 = 0x1000;
  ap.msr.tsc_adjust = 5;
  ap.fpu.fcw = 0x37f;
  ap.activity = Activity::running;
  init_cpu(ap);
  EXPECT_EQ(ap.cr0, 0x10u);
  EXPECT_EQ(ap.cr3, 0u);
  EXPECT_EQ(ap.msr.tsc_adjust, 5u);
  EXPECT_EQ(ap.fpu.fcw, 0x37f);
  EXPECT_EQ(ap.index, 1u);
  EXPECT_EQ(ap.activity, Activity::wait_for_sipi);
}

}  // namespace
}  // namespace deja
