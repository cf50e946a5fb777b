#include "semantics/system_machine_for_test.h"

namespace deja {
namespace {

class Msrs : public SystemTest {};

TEST_F(Msrs, ThatMoveTheTscSaySo) {
  EXPECT_RUNS(wrmsr(0xc0000103, 7));  // IA32_TSC_AUX
  EXPECT_FALSE(cpu.tsc_moved);
  for (const u32 msr : {0x10, 0x3b}) {
    cpu.tsc_moved = false;
    EXPECT_RUNS(wrmsr(msr, 1000));
    EXPECT_TRUE(cpu.tsc_moved);
  }
}

TEST_F(Msrs, HoldWhatIsWritten) {
  u64 value = 0;
  EXPECT_ERROR(rdmsr(0xc0011029, &value), kGP, 0);
  EXPECT_ERROR(wrmsr(0xc0000082, u64{1} << 47), kGP, 0);
  EXPECT_RUNS(wrmsr(0xc0000082, 0xffff800000000000));
  EXPECT_RUNS(wrmsr(0x10, 1000));
  EXPECT_RUNS(rdmsr(0x3b, &value));
  EXPECT_EQ(value, 1000u);
  EXPECT_RUNS(run({0x0f, 0x31}));
  EXPECT_EQ(state.gpr[RAX], 1000u);
  EXPECT_ERROR(wrmsr(0x277, 2), kGP, 0);
  EXPECT_RUNS(rdmsr(0x1b, &value));
  EXPECT_EQ(value, 0xfee00900u);
  EXPECT_RUNS(wrmsr(0x1b, value | 1 << 10));
  EXPECT_ERROR(wrmsr(0x1b, value), kGP, 0);  // x2APIC to xAPIC
  EXPECT_RUNS(wrmsr(0xc0000101, 0x1234));
  EXPECT_EQ(state.seg[GS].base, 0x1234u);
  user64();
  EXPECT_ERROR(rdmsr(0x10, &value), kGP, 0);
}

// What each MSR takes, as written and as read back, and what it refuses with #GP(0). Those of the x2APIC are
// the local APIC's (devices/interrupts/local_apic_test.cc).
struct MsrCase {
  u32 msr;
  std::vector<std::pair<u64, u64>> taken;
  std::vector<u64> refused;
};
constexpr u64 kOnes = ~u64{0}, kHalf = u64{1} << 47, kHighHalf = 0xffff800000000000;
const std::vector<MsrCase> kMsrCases = {
    {0x10, {{0, 0}, {kOnes, kOnes}}, {}},                               // IA32_TIME_STAMP_COUNTER
    {0x17, {}, {0}},                                                    // IA32_PLATFORM_ID: read-only
    {0x1b, {{0xfee00900, 0xfee00900}, {0xfee00d00, 0xfee00d00}}, {1}},  // IA32_APIC_BASE
    {0x3a, {}, {0, 1, 5}},                                              // IA32_FEATURE_CONTROL: locked
    {0x3b, {{kOnes, kOnes}, {0, 0}}, {}},                               // IA32_TSC_ADJUST
    {0x48, {{3, 3}, {0, 0}}, {4, u64{1} << 32}},                        // IA32_SPEC_CTRL: no SSBD
    {0x8b, {{0, u64{1} << 32}}, {}},                                    // IA32_BIOS_SIGN_ID
    {0xce, {}, {0}},                                                    // MSR_PLATFORM_INFO: read-only
    {0xfe, {}, {0}},                                                    // IA32_MTRRCAP: read-only
    {0x10a, {}, {0}},                                                   // IA32_ARCH_CAPABILITIES: read-only
    {0x10b, {}, {1}},                                                   // IA32_FLUSH_CMD: not offered
    {0x140, {{0, 0}}, {1}},                                             // MSR_MISC_FEATURES_ENABLES
    {0x174, {{0x10, 0x10}, {0, 0}}, {}},                                // IA32_SYSENTER_CS
    {0x175, {{kHighHalf, kHighHalf}}, {kHalf}},                         // IA32_SYSENTER_ESP
    {0x176, {{kHighHalf, kHighHalf}}, {kHalf}},                         // IA32_SYSENTER_EIP
    {0x179, {}, {0}},                                                   // IA32_MCG_CAP: read-only
    {0x17a, {{0, 0}, {7, 7}}, {0x10}},                                  // IA32_MCG_STATUS
    {0x17b, {{kOnes, kOnes}, {0, 0}}, {5}},                             // IA32_MCG_CTL
    {0x186, {}, {0}},                                                   // no performance counters
    {0x199, {}, {0}},                                                   // IA32_PERF_CTL: no SpeedStep
    {0x1a0,                                                             // IA32_MISC_ENABLE
     {{0x400c51809, 0x400c51809},
      {0x400c51889, 0x400c51809},
      {0, 0x1800},
      {u64{1} << 38, u64{1} << 38 | 0x1800},
      {1, 0x1801}},
     {2, 1 << 4, 1 << 8, 1 << 13, 1 << 17, 1 << 19, 1 << 24, u64{1} << 33, u64{1} << 35, u64{1} << 63}},
    {0x1d9, {{1, 1}, {2, 2}, {3, 3}, {0, 0}}, {4, 0x40, 0x80, 1 << 16}},  // IA32_DEBUGCTL
    {0x200, {{0, 0}, {0x80000006, 0x80000006}}, {2, 0x100, u64{1} << 40}},
    {0x201, {{0xff80000800, 0xff80000800}, {0, 0}}, {1, u64{1} << 40}},
    {0x20f, {{0, 0}}, {1}},
    {0x210, {}, {0}},
    {0x250, {{0x0606060606060606, 0x0606060606060606}, {0, 0}}, {2, 7}},
    {0x259, {{0x0505050505050505, 0x0505050505050505}}, {3}},
    {0x26f, {{0x0404040404040404, 0x0404040404040404}}, {u64{8} << 56}},
    {0x277, {{0x0007040600070406, 0x0007040600070406}, {0x07070707, 0x07070707}}, {2, 3, 8, kOnes}},
    {0x2ff, {{0xc06, 0xc06}, {0, 0}}, {2, 0x100, 0x1000}},  // IA32_MTRR_DEF_TYPE
    {0x38f, {}, {0}},
    {0x400, {{kOnes, kOnes}, {5, 5}, {0, 0}}, {}},  // IA32_MC0_CTL, STATUS, ADDR, MISC
    {0x401, {{0, 0}}, {1, kOnes}},
    {0x402, {{kOnes, kOnes}, {0, 0}}, {}},
    {0x403, {{kOnes, kOnes}, {0, 0}}, {}},
    {0x40f, {{0, 0}}, {}},
    {0x410, {}, {0}},
    {0x480, {}, {0}},  // no VMX
    {0xda0, {}, {0}},  // IA32_XSS: no XSAVES
    {0xc0000080, {{0xd01, 0xd01}, {0x900, 0xd00}, {0x500, 0x500}}, {2, 1 << 12, 1 << 14}},
    {0xc0000081, {{kOnes, kOnes}}, {}},                        // IA32_STAR
    {0xc0000082, {{kHighHalf, kHighHalf}}, {kHalf}},           // IA32_LSTAR
    {0xc0000083, {{kHighHalf, kHighHalf}}, {kHalf}},           // IA32_CSTAR
    {0xc0000084, {{0xffffffff, 0xffffffff}}, {u64{1} << 32}},  // IA32_FMASK
    {0xc0000100, {{kHighHalf, kHighHalf}, {0, 0}}, {kHalf}},   // FS, GS, kernel GS
    {0xc0000101, {{kHighHalf, kHighHalf}, {0, 0}}, {kHalf}},
    {0xc0000102, {{kHighHalf, kHighHalf}, {0, 0}}, {kHalf}},
    {0xc0000103, {{0xffffffff, 0xffffffff}}, {u64{1} << 32}},  // IA32_TSC_AUX
    {0xc0010015, {}, {0}},                                     // AMD's
};

TEST_F(Msrs, EachMsrTakesAndRefuses) {
  for (const MsrCase& c : kMsrCases) {
    SCOPED_TRACE(testing::Message() << "MSR " << std::hex << c.msr);
    for (const auto& [written, read] : c.taken) {
      SCOPED_TRACE(testing::Message() << "value " << std::hex << written);
      EXPECT_RUNS(wrmsr(c.msr, written));
      u64 value = 0;
      EXPECT_RUNS(rdmsr(c.msr, &value));
      EXPECT_EQ(value, read);
    }
    for (const u64 refused : c.refused) {
      SCOPED_TRACE(testing::Message() << "value " << std::hex << refused);
      EXPECT_ERROR(wrmsr(c.msr, refused), kGP, 0);
    }
  }
  // Commands, which cannot be read.
  u64 value = 0;
  for (const u32 msr : {0x49u, 0x79u}) {
    EXPECT_RUNS(wrmsr(msr, 1));
    EXPECT_ERROR(rdmsr(msr, &value), kGP, 0);
  }
  EXPECT_ERROR(wrmsr(0x49, 2), kGP, 0);
}

TEST_F(Msrs, MiscEnableActsOnCpuidAndEfer) {
  const auto leaf = [&](u32 number) {
    state.gpr[RAX] = number;
    state.gpr[RCX] = 0;
    EXPECT_RUNS(run({0x0f, 0xa2}));
  };
  leaf(7);
  const u64 features = state.gpr[RBX];
  EXPECT_RUNS(wrmsr(0x1a0, 1 | 1 << 22));
  leaf(0);
  EXPECT_EQ(state.gpr[RAX], 2u);
  leaf(7);
  EXPECT_NE(state.gpr[RBX], features);
  EXPECT_RUNS(wrmsr(0x1a0, 1 | u64{1} << 34));
  leaf(0x80000001);
  EXPECT_FALSE(state.gpr[RDX] >> 20 & 1) << "execute disable";
  EXPECT_ERROR(wrmsr(0xc0000080, state.efer | eferbit::NXE), kGP, 0);
  EXPECT_RUNS(wrmsr(0x1a0, 1));
  leaf(0);
  EXPECT_EQ(state.gpr[RAX], 0x16u);
  EXPECT_RUNS(wrmsr(0xc0000080, state.efer | eferbit::NXE));
}

}  // namespace
}  // namespace deja
