#include "semantics/system_machine_for_test.h"

namespace deja {
namespace {

class ControlRegisters : public SystemTest {
 protected:
  std::optional<GuestFault> write_cr(u8 number, u64 value) {
    state.gpr[RAX] = value;
    return run({0x0f, 0x22, static_cast<u8>(0xc0 | number << 3)});
  }
};

TEST_F(ControlRegisters, IntoLongModeAndOut) {
  legacy_mode();
  EXPECT_RUNS(wrmsr(0xc0000080, eferbit::LME));
  EXPECT_FALSE(state.efer & eferbit::LMA);
  EXPECT_ERROR(write_cr(0, cr0bit::PE | cr0bit::PG), kGP, 0);  // without PAE
  EXPECT_RUNS(write_cr(4, cr4bit::PAE));
  const int before = mmu.paging_changes;
  EXPECT_RUNS(write_cr(0, cr0bit::PE | cr0bit::PG));
  EXPECT_GT(mmu.paging_changes, before);
  EXPECT_TRUE(state.efer & eferbit::LMA);
  EXPECT_FALSE(state.mode64()) << "compatibility mode until CS is loaded";
  EXPECT_RUNS(run({0xea, 0x00, 0x10, 0, 0, kCode64, 0}));
  EXPECT_TRUE(state.mode64());
  EXPECT_ERROR(write_cr(0, cr0bit::PE), kGP, 0);  // paging off in 64-bit mode
  EXPECT_ERROR(write_cr(4, 0), kGP, 0);           // PAE off in IA-32e mode
  EXPECT_ERROR(wrmsr(0xc0000080, 0), kGP, 0);     // LME with paging on
  EXPECT_RUNS(wrmsr(0xc0000080, eferbit::LME | eferbit::SCE | eferbit::NXE));
  EXPECT_TRUE(state.efer & eferbit::LMA);
  state.seg[CS] = segment(kCode32);
  EXPECT_RUNS(write_cr(0, cr0bit::PE));
  EXPECT_FALSE(state.efer & eferbit::LMA);
}

TEST_F(ControlRegisters, Validity) {
  EXPECT_ERROR(write_cr(0, state.cr0 | cr0bit::NW), kGP, 0);
  EXPECT_ERROR(write_cr(0, state.cr0 | u64{1} << 32), kGP, 0);
  EXPECT_ERROR(write_cr(4, state.cr4 | 1 << 24), kGP, 0);
  EXPECT_ERROR(write_cr(3, u64{1} << 40), kGP, 0);
  EXPECT_ERROR(write_cr(3, u64{1} << 63), kGP, 0);
  state.cr3 = 5;
  EXPECT_ERROR(write_cr(4, state.cr4 | cr4bit::PCIDE), kGP, 0);
  state.cr3 = 0x1000;
  EXPECT_RUNS(write_cr(4, state.cr4 | cr4bit::PCIDE));
  EXPECT_RUNS(write_cr(3, u64{1} << 63 | 0x2001));
  EXPECT_EQ(state.cr3, 0x2001u);
  user64();
  EXPECT_ERROR(write_cr(3, 0), kGP, 0);
}

TEST_F(ControlRegisters, PaePdptesAreLoadedAndChecked) {
  legacy_mode();
  put<u64>(kPdpt, 0x1001);
  put<u64>(kPdpt + 8, 0x2006);  // reserved bits in an entry that is not present
  EXPECT_RUNS(write_cr(4, cr4bit::PAE));
  EXPECT_RUNS(write_cr(3, kPdpt));
  EXPECT_EQ(state.pdpte[0], 0u) << "no PAE paging yet";
  EXPECT_RUNS(write_cr(0, state.cr0 | cr0bit::PG));
  EXPECT_EQ(state.pdpte[0], 0x1001u);
  put<u64>(kPdpt, 0x1003);
  EXPECT_ERROR(write_cr(3, kPdpt), kGP, 0);
  put<u64>(kPdpt, u64{1} << 41 | 1);
  EXPECT_ERROR(write_cr(3, kPdpt), kGP, 0);
  EXPECT_EQ(state.pdpte[0], 0x1001u);
  EXPECT_ERROR(write_cr(3, 0x10000000), kGP, 0);  // not RAM
}

TEST_F(ControlRegisters, LmswCannotClearPe) {
  legacy_mode();
  state.gpr[RAX] = 0x0e;
  EXPECT_RUNS(run({0x0f, 0x01, 0xf0}));
  EXPECT_TRUE(state.cr0 & cr0bit::PE);
  EXPECT_TRUE(state.cr0 & cr0bit::TS);
  EXPECT_RUNS(run({0x0f, 0x06}));
  EXPECT_FALSE(state.cr0 & cr0bit::TS);
}

TEST_F(ControlRegisters, DebugRegisters) {
  state.gpr[RAX] = 0xffffffff;
  EXPECT_RUNS(run({0x0f, 0x23, 0xf0}));  // mov dr6, rax
  EXPECT_EQ(state.dr6, 0xffffefffu);
  state.gpr[RAX] = 0;
  EXPECT_RUNS(run({0x0f, 0x23, 0xe0}));  // mov dr4, rax
  EXPECT_EQ(state.dr6, 0xffff0ff0u);
  state.cr4 |= cr4bit::DE;
  EXPECT_FAULT(run({0x0f, 0x23, 0xe0}), kUD);
  state.gpr[RAX] = u64{1} << 32;
  EXPECT_ERROR(run({0x0f, 0x23, 0xf8}), kGP, 0);
  state.dr7 |= 1 << 13;
  const auto fault = run({0x0f, 0x21, 0xc0});  // mov rax, dr0
  ASSERT_TRUE(fault);
  EXPECT_EQ(fault->vector, kDB);
  EXPECT_EQ(fault->dr6, 1u << 13);
}

TEST_F(ControlRegisters, Xsetbv) {
  const auto xsetbv = [&](u64 value) {
    state.gpr[RCX] = state.gpr[RDX] = 0;
    state.gpr[RAX] = value;
    return run({0x0f, 0x01, 0xd1});
  };
  EXPECT_FAULT(xsetbv(7), kUD);
  EXPECT_RUNS(write_cr(4, state.cr4 | cr4bit::OSXSAVE));
  EXPECT_RUNS(xsetbv(7));
  EXPECT_EQ(state.xcr0, 7u);
  EXPECT_ERROR(xsetbv(6), kGP, 0);
  EXPECT_ERROR(xsetbv(5), kGP, 0);
  EXPECT_ERROR(xsetbv(0x1f), kGP, 0);
}

}  // namespace
}  // namespace deja
