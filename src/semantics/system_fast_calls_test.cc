#include "semantics/system_machine_for_test.h"

namespace deja {
namespace {

class FastCalls : public SystemTest {
 protected:
  FastCalls() {
    state.msr.star = u64{0x23} << 48 | u64{0x10} << 32;
    state.msr.lstar = 0xffffffff81000000;
    state.msr.fmask = flag::IF | flag::TF | flag::AC | 2;
  }
};

TEST_F(FastCalls, SyscallAndSysret) {
  user64();
  state.rflags = flag::kReserved1 | flag::IF | flag::AC | flag::CF;
  const u64 flags = state.rflags;
  EXPECT_RUNS(run({0x0f, 0x05}));
  EXPECT_EQ(state.rip, 0xffffffff81000000u);
  EXPECT_EQ(state.cpl(), 0u);
  EXPECT_TRUE(state.mode64());
  EXPECT_EQ(state.gpr[RCX], 0x102u);
  EXPECT_EQ(state.gpr[R11], flags);
  EXPECT_EQ(state.rflags, flag::kReserved1 | flag::CF);
  EXPECT_EQ(state.seg[CS].selector, 0x10);
  EXPECT_EQ(state.seg[SS].selector, 0x18);
  EXPECT_EQ(state.gpr[RSP], kUserStack);
  EXPECT_RUNS(run({0x48, 0x0f, 0x07}));
  EXPECT_EQ(state.rip, 0x102u);
  EXPECT_EQ(state.cpl(), 3u);
  EXPECT_TRUE(state.mode64());
  EXPECT_EQ(state.rflags, flags);
  EXPECT_EQ(state.seg[CS].selector, 0x33);
  EXPECT_EQ(state.seg[SS].selector, 0x2b);
}

TEST_F(FastCalls, SysretToCompatibilityModeAndItsFaults) {
  state.gpr[RCX] = 0x1'0000'2000;
  state.gpr[R11] = flag::RF | flag::VM | flag::IF;
  EXPECT_RUNS(run({0x0f, 0x07}));
  EXPECT_EQ(state.rip, 0x2000u);
  EXPECT_FALSE(state.mode64());
  EXPECT_EQ(state.code_size(), 4u);
  EXPECT_EQ(state.rflags, flag::kReserved1 | flag::IF);
  EXPECT_FAULT(run({0x0f, 0x05}), kUD);  // SYSCALL in compatibility mode, as on Intel
  long_mode();
  state.gpr[RCX] = 0x800000000000;
  EXPECT_ERROR(run({0x48, 0x0f, 0x07}), kGP, 0);
  EXPECT_EQ(state.cpl(), 0u);
  state.efer &= ~eferbit::SCE;
  EXPECT_FAULT(run({0x0f, 0x05}), kUD);
  user64();
  state.efer |= eferbit::SCE;
  EXPECT_ERROR(run({0x48, 0x0f, 0x07}), kGP, 0);
}

TEST_F(FastCalls, SysenterAndSysexit) {
  user64();
  EXPECT_ERROR(run({0x0f, 0x34}), kGP, 0);
  state.msr.sysenter_cs = 0x10;
  state.msr.sysenter_esp = kKernelStack;
  state.msr.sysenter_eip = 0xffffffff82000000;
  state.rflags |= flag::IF;
  EXPECT_RUNS(run({0x0f, 0x34}));
  EXPECT_EQ(state.rip, 0xffffffff82000000u);
  EXPECT_EQ(state.gpr[RSP], kKernelStack);
  EXPECT_EQ(state.cpl(), 0u);
  EXPECT_FALSE(state.rflags & flag::IF);
  state.gpr[RDX] = 0x400000;
  state.gpr[RCX] = kUserStack;
  EXPECT_RUNS(run({0x0f, 0x35}));
  EXPECT_FALSE(state.mode64());
  EXPECT_EQ(state.seg[CS].selector, 0x23);
  EXPECT_EQ(state.seg[SS].selector, 0x2b);
  EXPECT_EQ(state.gpr[RSP], kUserStack);
}

}  // namespace
}  // namespace deja
