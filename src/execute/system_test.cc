#include "execute/system_test_machine.h"

namespace deja {
namespace {

// --- SYSCALL, SYSENTER and their returns.

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

// --- Segment registers.

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

// --- Far transfers.

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

// --- Control registers and the modes.

class ControlRegisters : public SystemTest {
 protected:
  std::optional<GuestFault> write_cr(u8 number, u64 value) {
    state.gpr[RAX] = value;
    return run({0x0f, 0x22, static_cast<u8>(0xc0 | number << 3)});
  }
  std::optional<GuestFault> wrmsr(u32 msr, u64 value) {
    state.gpr[RCX] = msr;
    state.gpr[RAX] = static_cast<u32>(value);
    state.gpr[RDX] = value >> 32;
    return run({0x0f, 0x30});
  }
  std::optional<GuestFault> rdmsr(u32 msr, u64* value) {
    state.gpr[RCX] = msr;
    const auto fault = run({0x0f, 0x32});
    *value = state.gpr[RAX] | state.gpr[RDX] << 32;
    return fault;
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

TEST_F(ControlRegisters, Msrs) {
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
// the local APIC's (devices/local_apic_test.cc).
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

TEST_F(ControlRegisters, EachMsrTakesAndRefuses) {
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

TEST_F(ControlRegisters, MiscEnableActsOnCpuidAndEfer) {
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

// --- Flags and I/O rights.

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
