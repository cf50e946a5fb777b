#include "semantics/system_machine_for_test.h"

namespace deja {
namespace {

class Segments : public SystemTest {
 protected:
  std::optional<GuestFault> mov(Seg seg, u16 selector) {
    state.gpr[RAX] = selector;
    return run({0x8e, static_cast<u8>(0xc0 | seg << 3)});
  }
};

TEST_F(Segments, LoadSetsTheAccessedBit) {
  legacy_mode();
  EXPECT_RUNS(mov(ES, kUserData));
  EXPECT_EQ(state.seg[ES].selector, kUserData);
  EXPECT_EQ(state.seg[ES].limit, 0xffffffffu);
  EXPECT_EQ(state.seg[ES].attr, 0xc0f3);
  EXPECT_EQ(descriptor(kUserData), 0x00cff3000000ffffu);
}

TEST_F(Segments, Faults) {
  legacy_mode();
  EXPECT_ERROR(mov(DS, kAbsentData), kNP, kAbsentData);
  EXPECT_ERROR(mov(SS, kAbsentData), kSS, kAbsentData);
  EXPECT_ERROR(mov(SS, 0), kGP, 0);
  EXPECT_ERROR(mov(SS, kUserStackSel), kGP, kUserStackSel & ~3);
  EXPECT_ERROR(mov(SS, kReadOnly), kGP, kReadOnly);
  EXPECT_ERROR(mov(DS, 0x1000), kGP, 0x1000);
  EXPECT_ERROR(mov(DS, 0x0c), kGP, 0x0c);  // no LDT
  EXPECT_ERROR(mov(DS, kTssSel), kGP, kTssSel);
  EXPECT_RUNS(mov(DS, kReadOnly));
  EXPECT_RUNS(mov(DS, 3));
  EXPECT_FALSE(state.seg[DS].present());
  user32();
  EXPECT_ERROR(mov(ES, kStack), kGP, kStack);
  // A write-protected table: the accessed bit cannot be set, and nothing is loaded.
  mmu.kinds[kGdt / kPageSize] = PageKind::read_only;
  state.seg[ES] = {};
  EXPECT_FAULT(mov(ES, kUserData), kPF);
  EXPECT_EQ(state.seg[ES].selector, 0);
}

TEST_F(Segments, StackSegmentMakesAShadow) {
  EXPECT_RUNS(mov(SS, kStack));
  EXPECT_TRUE(state.mov_ss_shadow);
  EXPECT_RUNS(mov(SS, 0));  // 64-bit mode, CPL 0
  EXPECT_EQ(state.cpl(), 0u);
  state.mov_ss_shadow = false;
  legacy_mode();
  put<u32>(state.gpr[RSP], kStack);
  EXPECT_RUNS(run({0x17}));
  EXPECT_TRUE(state.mov_ss_shadow);
  EXPECT_EQ(state.gpr[RSP], kKernelStack + 4);
}

TEST_F(Segments, NullSelectorsAndBasesIn64BitMode) {
  state.seg[FS].base = 0x123456789000;
  EXPECT_RUNS(mov(FS, 0));
  EXPECT_EQ(state.seg[FS].base, 0u);
  EXPECT_FAULT(run({0xf3, 0x48, 0x0f, 0xae, 0xd0}), kUD);  // CR4.FSGSBASE off
  state.cr4 |= cr4bit::FSGSBASE;
  state.gpr[RAX] = 0x7fff00000000;
  EXPECT_RUNS(run({0xf3, 0x48, 0x0f, 0xae, 0xd0}));
  EXPECT_EQ(state.seg[FS].base, 0x7fff00000000u);
  state.gpr[RAX] = u64{1} << 63;
  EXPECT_ERROR(run({0xf3, 0x48, 0x0f, 0xae, 0xd0}), kGP, 0);
  state.seg[GS].base = 1;
  state.msr.kernel_gs_base = 2;
  EXPECT_RUNS(run({0x0f, 0x01, 0xf8}));
  EXPECT_EQ(state.seg[GS].base, 2u);
  EXPECT_EQ(state.msr.kernel_gs_base, 1u);
}

TEST_F(Segments, RealMode) {
  real_mode();
  EXPECT_RUNS(mov(DS, 0x1234));
  EXPECT_EQ(state.seg[DS].base, 0x12340u);
  EXPECT_EQ(state.seg[DS].limit, 0xffffu);
  put<u32>(kData, 0x0456'0123);
  state.seg[DS].base = 0;
  EXPECT_RUNS(run({0xc4, 0x1e, 0x00, 0xa0}));  // les bx, [0xa000]
  EXPECT_EQ(state.gpr[RBX], 0x123u);
  EXPECT_EQ(state.seg[ES].base, 0x4560u);
}

TEST_F(Segments, ExpandDownLimit) {
  legacy_mode();
  state.seg[DS] = {.base = 0, .limit = 0x0fff, .selector = 8, .attr = 0x4097};
  EXPECT_NO_THROW(linear_address(cpu, DS, 0x1000, 4, Access::write));
  EXPECT_THROW(linear_address(cpu, DS, 0xfff, 4, Access::read), GuestFault);
  EXPECT_THROW(linear_address(cpu, DS, 0xfffffffe, 4, Access::read), GuestFault);
  EXPECT_THROW(linear_address(cpu, CS, 0, 4, Access::write), GuestFault);
}

TEST_F(Segments, AnOperandAcrossTheEndOfTheCanonicalAddressesIsMisalignedFirst) {
  user64();
  state.cr0 |= cr0bit::AM;
  state.gpr[RBX] = 0x7fffffffffff;
  EXPECT_ERROR(run({0x0f, 0x00, 0x23}), kGP, 0);  // verr [rbx]
  EXPECT_ERROR(run({0x0f, 0x00, 0x03}), kGP, 0);  // sldt [rbx]
  state.rflags |= flag::AC;
  EXPECT_ERROR(run({0x0f, 0x00, 0x23}), kAC, 0);
  EXPECT_ERROR(run({0x0f, 0x00, 0x03}), kAC, 0);
  state.gpr[RBX] = 0x800000000001;
  EXPECT_ERROR(run({0x0f, 0x00, 0x23}), kGP, 0);
}

TEST_F(Segments, LarLslVerr) {
  state.gpr[RBX] = kUserCode32;
  EXPECT_RUNS(run({0x0f, 0x02, 0xc3}));  // lar eax, ebx
  EXPECT_TRUE(state.rflags & flag::ZF);
  EXPECT_EQ(state.gpr[RAX], 0x00c0fa00u);
  EXPECT_RUNS(run({0x0f, 0x03, 0xc3}));  // lsl eax, ebx
  EXPECT_EQ(state.gpr[RAX], 0xffffffffu);
  EXPECT_RUNS(run({0x0f, 0x00, 0xe3}));  // verr bx
  EXPECT_TRUE(state.rflags & flag::ZF);
  EXPECT_RUNS(run({0x0f, 0x00, 0xeb}));  // verw bx
  EXPECT_FALSE(state.rflags & flag::ZF);
  user64();
  state.gpr[RBX] = kStack;
  state.gpr[RAX] = 7;
  EXPECT_RUNS(run({0x0f, 0x02, 0xc3}));
  EXPECT_FALSE(state.rflags & flag::ZF);
  EXPECT_EQ(state.gpr[RAX], 7u);
}

TEST_F(Segments, LtrMarksTheTssBusy) {
  set_descriptor(kTssSel + 8, 0xffffffff);
  state.gpr[RAX] = kTssSel;
  EXPECT_RUNS(run({0x0f, 0x00, 0xd8}));
  EXPECT_EQ(state.tr.base, 0xffffffff00003000u);
  EXPECT_EQ(state.tr.type(), unsigned{kTssBusy});
  EXPECT_ERROR(run({0x0f, 0x00, 0xd8}), kGP, kTssSel);  // busy now
  state.gpr[RAX] = 0;
  EXPECT_ERROR(run({0x0f, 0x00, 0xd8}), kGP, 0);
  EXPECT_RUNS(run({0x0f, 0x00, 0xd0}));  // lldt 0
  EXPECT_FALSE(state.ldtr.present());
}

TEST_F(Segments, UmipHidesTheTables) {
  state.gpr[RBX] = kData;
  user64();
  EXPECT_RUNS(run({0x0f, 0x01, 0x03}));  // sgdt [rbx]
  EXPECT_EQ(get<u16>(kData), state.gdtr.limit);
  EXPECT_EQ(get<u64>(kData + 2), kGdt);
  state.cr4 |= cr4bit::UMIP;
  EXPECT_ERROR(run({0x0f, 0x01, 0x03}), kGP, 0);
}

}  // namespace
}  // namespace deja
