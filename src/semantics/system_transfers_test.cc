#include "semantics/system_machine_for_test.h"

namespace deja {
namespace {

class Transfers : public SystemTest {};

TEST_F(Transfers, CallGateToInnerLevelAndBack) {
  set_gate(kGdt + kGate, kCode64, 0xffffffff81000000, kCallGate, 3, 0, true);
  user64();
  state.gpr[RBX] = kData;
  put<u32>(kData, 0x5555);
  put<u16>(kData + 4, kGate | 3);
  EXPECT_RUNS(run({0xff, 0x1b}));  // call far [rbx]
  EXPECT_EQ(state.rip, 0xffffffff81000000u);
  EXPECT_EQ(state.cpl(), 0u);
  EXPECT_EQ(state.gpr[RSP], kKernelStack - 32);
  EXPECT_EQ(pushed(0), 0x102u);
  EXPECT_EQ(pushed(1), kUserCode64);
  EXPECT_EQ(pushed(2), kUserStack);
  EXPECT_EQ(pushed(3), kUserStackSel);
  EXPECT_RUNS(run({0x48, 0xcb}));  // retfq
  EXPECT_EQ(state.rip, 0x102u);
  EXPECT_EQ(state.cpl(), 3u);
  EXPECT_EQ(state.gpr[RSP], kUserStack);
}

TEST_F(Transfers, CallGateChecks) {
  user64();
  state.gpr[RBX] = kData;
  put<u16>(kData + 4, kGate | 3);
  set_gate(kGdt + kGate, kCode64, 0x1000, kCallGate, 0, 0, true);
  EXPECT_ERROR(run({0xff, 0x1b}), kGP, kGate);
  set_gate(kGdt + kGate, kCode32, 0x1000, kCallGate, 3, 0, true);
  EXPECT_ERROR(run({0xff, 0x1b}), kGP, kCode32);
  set_gate(kGdt + kGate, kCode64, 0x1000, kCallGate, 3, 0, true);
  EXPECT_ERROR(run({0xff, 0x2b}), kGP, kCode64);  // a jump must not change the level
  put<u16>(kData + 4, kCode64);
  EXPECT_ERROR(run({0xff, 0x1b}), kGP, kCode64);
  put<u16>(kData + 4, kConforming64);
  EXPECT_RUNS(run({0xff, 0x2b}));
  EXPECT_EQ(state.seg[CS].selector, kConforming64 | 3);
}

TEST_F(Transfers, CallGate32CopiesParameters) {
  legacy_mode();
  user32();
  set_gate(kGdt + kGate, kCode32, 0x1000, kCallGate, 3, 2, false);
  state.gpr[RSP] = kUserStack - 8;
  put<u32>(kUserStack - 8, 111);
  put<u32>(kUserStack - 4, 222);
  EXPECT_RUNS(run({0x9a, 0, 0, 0, 0, kGate | 3, 0}));
  EXPECT_EQ(state.rip, 0x1000u);
  EXPECT_EQ(state.gpr[RSP], kKernelStack - 24);
  EXPECT_EQ(pushed32(0), 0x107u);
  EXPECT_EQ(pushed32(2), 111u);
  EXPECT_EQ(pushed32(3), 222u);
  EXPECT_EQ(pushed32(4), kUserStack - 8);
  EXPECT_RUNS(run({0xca, 8, 0}));  // retf 8
  EXPECT_EQ(state.cpl(), 3u);
  EXPECT_EQ(state.gpr[RSP], kUserStack);
  EXPECT_EQ(state.rip, 0x107u);
}

TEST_F(Transfers, FaultingCallChangesNothing) {
  legacy_mode();
  state.gpr[RSP] = 0x20000;
  EXPECT_FAULT(run({0x9a, 0, 0x10, 0, 0, kCode32, 0}), kPF);
  EXPECT_EQ(state.gpr[RSP], 0x20000u);
  EXPECT_EQ(state.rip, 0x100u);
}

TEST_F(Transfers, JumpsBetweenModes) {
  legacy_mode();
  EXPECT_RUNS(run({0xea, 0x34, 0x12, 0, 0, kCode16, 0}));
  EXPECT_EQ(state.code_size(), 2u);
  EXPECT_EQ(state.rip, 0x1234u);
  state.cr0 &= ~cr0bit::PE;
  EXPECT_RUNS(run({0xea, 0x00, 0x01, 0x00, 0x02}));
  EXPECT_EQ(state.seg[CS].base, 0x2000u);
  EXPECT_EQ(state.rip, 0x100u);
}

}  // namespace
}  // namespace deja
