#include "semantics/system_machine_for_test.h"

namespace deja {
namespace {

class LegacyOps : public SystemTest {
 protected:
  LegacyOps() { legacy_mode(); }
  void set_ax(u16 ax, u64 status = 0) {
    state.gpr[RAX] = 0xabcd0000 | ax;
    state.rflags = flag::kReserved1 | status;
  }
  void expect_ax(u16 ax, u64 status) {
    EXPECT_EQ(state.gpr[RAX], 0xabcd0000u | ax);
    EXPECT_EQ(state.rflags & flag::kStatus, status);
  }
};

TEST_F(LegacyOps, DecimalAdjust) {
  set_ax(0xae, 0);  // 79h + 35h: SDM's example
  EXPECT_RUNS(run({0x27}));
  expect_ax(0x14, flag::CF | flag::AF | flag::PF);
  set_ax(0x2e, flag::CF | flag::AF);
  EXPECT_RUNS(run({0x27}));
  expect_ax(0x94, flag::CF | flag::AF | flag::SF);
  set_ax(0xee, flag::CF | flag::AF);  // 35h - 47h
  EXPECT_RUNS(run({0x2f}));
  expect_ax(0x88, flag::CF | flag::AF | flag::SF | flag::PF);
  set_ax(0x03, flag::AF);
  EXPECT_RUNS(run({0x2f}));
  expect_ax(0xfd, flag::CF | flag::AF | flag::SF);
}

TEST_F(LegacyOps, AsciiAdjust) {
  set_ax(0x00fa);
  EXPECT_RUNS(run({0x37}));
  expect_ax(0x0200, flag::CF | flag::AF);
  set_ax(0x0105);
  EXPECT_RUNS(run({0x37}));
  expect_ax(0x0105, 0);
  set_ax(0x02ff, flag::AF);
  EXPECT_RUNS(run({0x3f}));
  expect_ax(0x0109, flag::CF | flag::AF);
  set_ax(0x003f);
  EXPECT_RUNS(run({0xd4, 10}));
  expect_ax(0x0603, flag::PF);
  EXPECT_RUNS(run({0xd5, 10}));
  expect_ax(0x003f, flag::PF);
  EXPECT_FAULT(run({0xd4, 0}), kDE);
}

TEST_F(LegacyOps, Bound) {
  state.gpr[RBX] = kData;
  put<i32>(kData, -5);
  put<i32>(kData + 4, 5);
  state.gpr[RAX] = 0xfffffffb;
  EXPECT_RUNS(run({0x62, 0x03}));
  state.gpr[RAX] = 6;
  EXPECT_FAULT(run({0x62, 0x03}), kBR);
}

TEST_F(LegacyOps, PushaPopa) {
  for (unsigned i = 0; i < 8; ++i) state.gpr[i] = 0x100 + i;
  state.gpr[RSP] = kKernelStack;
  EXPECT_RUNS(run({0x60}));
  EXPECT_EQ(state.gpr[RSP], kKernelStack - 32);
  EXPECT_EQ(pushed32(0), 0x100u + RDI);
  EXPECT_EQ(pushed32(3), kKernelStack);
  EXPECT_EQ(pushed32(7), 0x100u);
  for (const Gpr r : {RAX, RCX, RDX, RBX, RBP, RSI, RDI}) state.gpr[r] = 0;
  EXPECT_RUNS(run({0x61}));
  EXPECT_EQ(state.gpr[RSP], kKernelStack);
  for (const Gpr r : {RAX, RCX, RDX, RBX, RBP, RSI, RDI}) EXPECT_EQ(state.gpr[r], 0x100u + r);
}

TEST_F(LegacyOps, EnterCopiesTheDisplay) {
  const u32 rbp = kKernelStack - 0x100;
  state.gpr[RBP] = rbp;
  put<u32>(rbp - 4, 0x1111);
  put<u32>(rbp - 8, 0x2222);
  state.gpr[RSP] = kKernelStack - 0x200;
  EXPECT_RUNS(run({0xc8, 0x10, 0, 3}));
  const u64 frame = kKernelStack - 0x204;
  EXPECT_EQ(state.gpr[RBP], frame);
  EXPECT_EQ(get<u32>(frame), rbp);
  EXPECT_EQ(get<u32>(frame - 4), 0x1111u);
  EXPECT_EQ(get<u32>(frame - 8), 0x2222u);
  EXPECT_EQ(get<u32>(frame - 12), frame);
  EXPECT_EQ(state.gpr[RSP], frame - 12 - 0x10);
  EXPECT_RUNS(run({0xc9}));
  EXPECT_EQ(state.gpr[RBP], rbp);
  EXPECT_EQ(state.gpr[RSP], frame + 4);
}

// All of ESP becomes the frame pointer, though the stack moves SP alone (tests/guest/stack_sizes.c has the
// rest).
TEST_F(LegacyOps, EnterOnASixteenBitStackKeepsTheUpperHalfOfEsp) {
  state.seg[SS].attr &= ~0x4000;
  state.gpr[RBP] = 0x567890f0;
  state.gpr[RSP] = 0x12340000 | kKernelStack;
  EXPECT_RUNS(run({0xc8, 8, 0, 2}));
  EXPECT_EQ(state.gpr[RBP], (0x12340000 | kKernelStack) - 4);
  EXPECT_EQ(state.gpr[RSP], (0x12340000 | kKernelStack) - 12 - 8);
  EXPECT_EQ(get<u32>(kKernelStack - 4), 0x567890f0u);
  EXPECT_EQ(get<u32>(kKernelStack - 12), (0x12340000 | kKernelStack) - 4);
}

TEST_F(LegacyOps, Xlat) {
  state.gpr[RBX] = kData;
  state.gpr[RAX] = 0x12345607;
  put<u8>(kData + 7, 0x99);
  EXPECT_RUNS(run({0xd7}));
  EXPECT_EQ(state.gpr[RAX], 0x12345699u);
}

TEST_F(LegacyOps, CompareExchange) {
  long_mode();
  state.gpr[RSI] = kData;
  put<u64>(kData, 1);
  put<u64>(kData + 8, 2);
  state.gpr[RAX] = 1;
  state.gpr[RDX] = 2;
  state.gpr[RBX] = 3;
  state.gpr[RCX] = 4;
  EXPECT_RUNS(run({0x48, 0x0f, 0xc7, 0x0e}));
  EXPECT_TRUE(state.rflags & flag::ZF);
  EXPECT_EQ(get<u64>(kData), 3u);
  EXPECT_EQ(get<u64>(kData + 8), 4u);
  EXPECT_RUNS(run({0x48, 0x0f, 0xc7, 0x0e}));
  EXPECT_FALSE(state.rflags & flag::ZF);
  EXPECT_EQ(state.gpr[RAX], 3u);
  EXPECT_EQ(state.gpr[RDX], 4u);
  state.gpr[RSI] = kData + 8;
  EXPECT_ERROR(run({0x48, 0x0f, 0xc7, 0x0e}), kGP, 0);
  state.gpr[RSI] = kData;
  mmu.kinds[kData / kPageSize] = PageKind::read_only;
  EXPECT_FAULT(run({0x0f, 0xc7, 0x0e}), kPF);
}

}  // namespace
}  // namespace deja
