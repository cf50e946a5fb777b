#include "semantics/system_machine_for_test.h"

namespace deja {
namespace {

class Flags : public SystemTest {
 protected:
  std::optional<GuestFault> popf(u64 value) {
    put<u64>(state.gpr[RSP], value);
    const auto fault = run({0x9d});
    if (!fault) state.gpr[RSP] -= state.mode64() ? 8 : 4;
    return fault;
  }
};

TEST_F(Flags, PopfObeysCplAndIopl) {
  EXPECT_RUNS(popf(~u64{0}));
  EXPECT_EQ(state.rflags, flag::kStatus | flag::kReserved1 | flag::TF | flag::IF | flag::DF | flag::IOPL |
                              flag::NT | flag::AC | flag::ID);
  user64();
  state.rflags = flag::kReserved1 | flag::IF;
  EXPECT_RUNS(popf(flag::IOPL));
  EXPECT_EQ(state.rflags, flag::kReserved1 | flag::IF);
  state.rflags = flag::kReserved1 | flag::IF | flag::IOPL;
  EXPECT_RUNS(popf(0));
  EXPECT_EQ(state.rflags, flag::kReserved1 | flag::IOPL);
  state.rflags |= flag::RF | flag::AC;
  EXPECT_RUNS(run({0x9c}));
  EXPECT_EQ(pushed(0), flag::kReserved1 | flag::IOPL | flag::AC);
  EXPECT_RUNS(run({0x66, 0x9d}));
  EXPECT_TRUE(state.rflags & flag::AC);
}

TEST_F(Flags, StiShadowAndIopl) {
  EXPECT_RUNS(run({0xfb}));
  EXPECT_TRUE(state.sti_shadow);
  state.sti_shadow = false;
  EXPECT_RUNS(run({0xfb}));
  EXPECT_FALSE(state.sti_shadow) << "IF was already set";
  user64();
  EXPECT_ERROR(run({0xfa}), kGP, 0);
  EXPECT_FAULT(run({0x0f, 0x01, 0xcb}), kUD);  // stac
  EXPECT_ERROR(run({0xf4}), kGP, 0);
  long_mode();
  EXPECT_RUNS(run({0x0f, 0x01, 0xcb}));
  EXPECT_TRUE(state.rflags & flag::AC);
  EXPECT_RUNS(run({0xf4}));
  EXPECT_EQ(state.activity, Activity::halted);
}

TEST_F(Flags, IoBreakpointsTrapWhenDebugExtensionsAreOn) {
  state.dr[1] = 0x80;
  state.dr7 = 0x400 | 1 << 2 | 2 << 20;  // L1, I/O, one port
  EXPECT_RUNS(run({0xe4, 0x80}));
  EXPECT_EQ(state.pending_dbg, 0u) << "CR4.DE is clear";
  state.cr4 |= cr4bit::DE;
  EXPECT_RUNS(run({0xe4, 0x81}));
  EXPECT_RUNS(run({0xe5, 0x7c}));
  EXPECT_EQ(state.pending_dbg, 0u) << "other ports";
  EXPECT_RUNS(run({0xe7, 0x7e}));
  EXPECT_EQ(state.pending_dbg, 2u) << "the third of four ports";
}

TEST_F(Flags, CpuidHandsLinesToTheGuestControlDevice) {
  const auto call = [&](u64 address, u64 length) {
    state.gpr[RAX] = 0x4f646a61, state.gpr[RCX] = length, state.gpr[RDX] = address;
    return run({0x0f, 0xa2});
  };
  const std::string line = "mark here";
  std::copy(line.begin(), line.end(), &mmu.bytes[kData]);
  user64();
  EXPECT_RUNS(call(kData, line.size()));
  EXPECT_EQ(platform.guest_calls, std::vector<std::string>{line});
  EXPECT_EQ(state.gpr[RAX], 1u);
  EXPECT_EQ(state.gpr[RBX], 0x616a6544u);
  EXPECT_RUNS(call(kData, 256));
  EXPECT_EQ(state.gpr[RAX], 0u) << "too long";
  mmu.supervisor_pages[kData / kPageSize] = true;
  EXPECT_FAULT(call(kData, 1), kPF);
  EXPECT_EQ(state.gpr[RAX], 0x4f646a61u) << "a fault changes nothing";
  platform.guest_call_answer = GuestCallAnswer::refused;
  EXPECT_RUNS(call(kData + kPageSize, 1));
  EXPECT_EQ(state.gpr[RAX], 2u) << "too many of them";
  EXPECT_EQ(state.gpr[RBX], 0x616a6544u);
  platform.guest_call_answer = GuestCallAnswer::absent;
  EXPECT_RUNS(call(0, 0));
  EXPECT_EQ(state.gpr[RAX] | state.gpr[RBX] | state.gpr[RCX] | state.gpr[RDX], 0u);
}

TEST_F(Flags, IoPermissionBitmap) {
  user64();
  state.gpr[RDX] = 0x3f9;
  state.tr.limit = 0x68 + 0x2000 / 8;
  put<u16>(kTss + 102, 0x68);
  EXPECT_RUNS(run({0xec}));
  put<u8>(kTss + 0x68 + 0x3f8 / 8, 1 << 2);
  EXPECT_RUNS(run({0xec}));
  EXPECT_ERROR(run({0xed}), kGP, 0);  // four ports from 3f9h
  state.gpr[RDX] = 0xffff;
  EXPECT_ERROR(run({0xec}), kGP, 0);  // beyond the TSS
  state.rflags |= flag::IOPL;
  EXPECT_RUNS(run({0xec}));
  EXPECT_EQ(static_cast<u8>(state.gpr[RAX]), 0xff);
  state.gpr[RAX] = 0x1234;
  EXPECT_RUNS(run({0xe7, 0x80}));
  ASSERT_EQ(platform.written.size(), 1u);
  EXPECT_EQ(platform.written[0], std::make_pair(u16{0x80}, u32{0x1234}));
}

}  // namespace
}  // namespace deja
