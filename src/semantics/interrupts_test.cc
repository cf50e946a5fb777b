#include "semantics/system_machine_for_test.h"

namespace deja {
namespace {

class Interrupts : public SystemTest {};

TEST_F(Interrupts, ExternalFromUserSwitchesToTheTssStack) {
  user64();
  state.rip = 0x400123;
  state.rflags = flag::kReserved1 | flag::IF | flag::TF | flag::NT | flag::CF;
  const u64 flags = state.rflags;
  state.sti_shadow = true;
  state.activity = Activity::halted;
  set_idt64(0x30, 0xffffffff81000000);
  mmu.supervisor_pages[kKernelStack / kPageSize - 1] = true;
  deliver_event(cpu, EventKind::external_interrupt, {0x30});
  EXPECT_EQ(state.rip, 0xffffffff81000000);
  EXPECT_EQ(state.cpl(), 0u);
  EXPECT_EQ(state.seg[CS].selector, kCode64);
  EXPECT_EQ(state.seg[SS].selector, 0);
  EXPECT_FALSE(state.seg[SS].present());
  EXPECT_EQ(state.gpr[RSP], kKernelStack - 40);
  EXPECT_EQ(pushed(0), 0x400123u);
  EXPECT_EQ(pushed(1), kUserCode64);
  EXPECT_EQ(pushed(2), flags);
  EXPECT_EQ(pushed(3), kUserStack);
  EXPECT_EQ(pushed(4), kUserStackSel);
  EXPECT_EQ(state.rflags, flag::kReserved1 | flag::CF);
  EXPECT_FALSE(state.sti_shadow);
  EXPECT_EQ(state.activity, Activity::running);
  EXPECT_TRUE(descriptor(kCode64) >> 40 & 1) << "accessed bit";
}

// SDM vol. 3A 6.14: IDT, GDT, TSS and stacks have 64-bit addresses, whatever the interrupted code is.
TEST_F(Interrupts, FromCompatibilityModeThroughTheUpperHalf) {
  constexpr u64 kHigh = SystemMmu::kHigh;
  tables_in_upper_half();
  set_idt64(0x30, 0xffffffff81000000);
  set_idt64(0x31, 0xffffffff81000100, kInterruptGate, 3, 1);
  user32();
  ASSERT_FALSE(state.mode64());
  deliver_event(cpu, EventKind::external_interrupt, {0x30});
  EXPECT_EQ(state.rip, 0xffffffff81000000);
  EXPECT_EQ(state.gpr[RSP], kHigh + kKernelStack - 40);
  EXPECT_EQ(pushed(1), kUserCode32);
  EXPECT_EQ(pushed(3), kUserStack);
  user32();
  state.rip = 0x100;
  EXPECT_RUNS(run({0xcd, 0x31}));
  EXPECT_EQ(state.gpr[RSP], kHigh + kIstStack - 40);
  EXPECT_EQ(pushed(0), 0x102u);
  // A frame in two pages is probed first.
  user32();
  put<u64>(kTss + 4, kHigh + 0x5010);
  deliver_event(cpu, EventKind::external_interrupt, {0x30});
  EXPECT_EQ(state.gpr[RSP], kHigh + 0x5010 - 40);
  EXPECT_EQ(pushed(3), kUserStack);
}

TEST_F(Interrupts, SameLevelKeepsSsAndAlignsTheStack) {
  state.gpr[RSP] = kKernelStack - 4;
  set_idt64(kGP, 0x1234);
  deliver_event(cpu, EventKind::fault, fault_gp(0x10));
  EXPECT_EQ(state.seg[SS].selector, kStack);
  EXPECT_EQ(state.gpr[RSP], (kKernelStack - 16) - 48);
  EXPECT_EQ(pushed(0), 0x10u);
  EXPECT_EQ(pushed(1), 0x100u);
  EXPECT_TRUE(pushed(3) & flag::RF);
  EXPECT_EQ(pushed(4), kKernelStack - 4);
  EXPECT_EQ(pushed(5), kStack);
}

TEST_F(Interrupts, PageFaultOnIst) {
  user64();
  set_idt64(kPF, 0x1234, kTrapGate, 0, 1);
  state.rflags |= flag::IF;
  deliver_event(cpu, EventKind::fault, fault_pf(0xdead000, 6));
  EXPECT_EQ(state.cr2, 0xdead000u);
  EXPECT_EQ(state.gpr[RSP], kIstStack - 48);
  EXPECT_EQ(pushed(0), 6u);
  EXPECT_TRUE(state.rflags & flag::IF) << "a trap gate leaves IF";
}

TEST_F(Interrupts, NmiBlocksFurtherOnes) {
  set_idt64(kNMI, 0x1234, kInterruptGate, 0, 1);
  deliver_event(cpu, EventKind::nmi, {kNMI});
  EXPECT_TRUE(state.nmi_blocked);
  EXPECT_EQ(state.rip, 0x1234u);
  EXPECT_EQ(state.gpr[RSP], kIstStack - 40);
  EXPECT_EQ(state.seg[SS].selector, kStack);
}

TEST_F(Interrupts, DebugExceptionSetsDr6) {
  set_idt64(kDB, 0x1234);
  state.dr6 = 0xffff0ff1;
  state.dr7 |= 1 << 13;
  deliver_event(cpu, EventKind::fault, {.vector = kDB, .dr6 = 0x4002});
  EXPECT_EQ(state.dr6, 0xffff4ff2u);
  EXPECT_FALSE(state.dr7 & 1 << 13);
  EXPECT_FALSE(pushed(2) & flag::RF);
}

TEST_F(Interrupts, PageFaultWhilePushingAPageFaultIsADoubleFault) {
  set_idt64(kPF, 0x1000);
  set_idt64(kDF, 0x2000, kInterruptGate, 0, 1);
  state.gpr[RSP] = 0x20008;  // absent
  const u64 flags = state.rflags;
  deliver_event(cpu, EventKind::fault, fault_pf(0x5555, 0));
  EXPECT_EQ(state.rip, 0x2000u);
  EXPECT_EQ(pushed(0), 0u);
  EXPECT_EQ(pushed(1), 0x100u);
  EXPECT_EQ(pushed(3) & ~flag::RF, flags);
  EXPECT_EQ(pushed(4), 0x20008u) << "the first attempt changed nothing";
  EXPECT_NE(state.cr2, 0x5555u) << "CR2 of the second fault";
}

TEST_F(Interrupts, AFaultOfTheFrameIsThatOfTheFirstPushThatMeetsOne) {
  set_idt64(0x30, 0x1000);
  set_idt64(kPF, 0x2000, kInterruptGate, 0, 1);
  user64();
  mmu.kinds[5] = PageKind::absent;
  for (const auto& [stack, cr2] :
       {std::pair{0x6010, 0x5ff8}, std::pair{0x6000, 0x5ff8}, std::pair{0x5f00, 0x5ef8}}) {
    user64();
    put<u64>(kTss + 4, static_cast<u64>(stack));
    deliver_event(cpu, EventKind::external_interrupt, {0x30});
    EXPECT_EQ(state.rip, 0x2000u);
    EXPECT_EQ(state.cr2, static_cast<u64>(cr2)) << "stack " << stack;
    EXPECT_EQ(get<u64>(0x6008), 0u) << "nothing was pushed";
  }
}

TEST_F(Interrupts, FaultTablesDecideBetweenSerialAndDouble) {
  set_idt64(kNP, 0x3000);
  set_idt64(kDF, 0x2000, kInterruptGate, 0, 1);
  // #UD has no gate that is present: benign, so #NP(IDT entry 6, EXT) follows.
  set_idt64(kUD, 0x1000);
  mmu.bytes[kIdt + kUD * 16 + 5] &= 0x7f;
  deliver_event(cpu, EventKind::fault, fault_ud());
  EXPECT_EQ(state.rip, 0x3000u);
  EXPECT_EQ(pushed(0), kUD * 8u + 2 + 1);
  // #GP, contributory, and then #NP: double fault.
  set_idt64(kGP, 0x1000);
  mmu.bytes[kIdt + kGP * 16 + 5] &= 0x7f;
  deliver_event(cpu, EventKind::fault, fault_gp());
  EXPECT_EQ(state.rip, 0x2000u);
  // An external interrupt without a gate: #NP, not a double fault.
  set_idt64(0x40, 0x1000);
  mmu.bytes[kIdt + 0x40 * 16 + 5] &= 0x7f;
  deliver_event(cpu, EventKind::external_interrupt, {0x40});
  EXPECT_EQ(state.rip, 0x3000u);
  EXPECT_EQ(pushed(0), 0x40u * 8 + 2 + 1);
}

TEST_F(Interrupts, TripleFaultShutsDown) {
  state.idtr.limit = 0;
  deliver_event(cpu, EventKind::fault, fault_ud());
  EXPECT_EQ(state.activity, Activity::shutdown);
  EXPECT_EQ(state.rip, 0x100u);
  EXPECT_EQ(state.gpr[RSP], kKernelStack);
}

TEST_F(Interrupts, SoftwareInterruptChecksGateDpl) {
  user64();
  set_idt64(0x80, 0x1000, kInterruptGate, 3);
  set_idt64(0x81, 0x1000, kInterruptGate, 0);
  EXPECT_ERROR(run({0xcd, 0x81}), kGP, 0x81 * 8 + 2);
  EXPECT_EQ(state.rip, 0x100u);
  EXPECT_RUNS(run({0xcd, 0x80}));
  EXPECT_EQ(state.rip, 0x1000u);
  EXPECT_EQ(pushed(0), 0x102u);
  EXPECT_FALSE(pushed(2) & flag::RF);
}

TEST_F(Interrupts, Int3IsATrapAndInt1SkipsTheDplCheck) {
  user64();
  set_idt64(kBP, 0x1000, kInterruptGate, 3);
  EXPECT_RUNS(run({0xcc}));
  EXPECT_EQ(pushed(0), 0x101u);
  user64();
  state.rip = 0x100;
  set_idt64(kDB, 0x1000, kInterruptGate, 0);
  EXPECT_RUNS(run({0xf1}));
  EXPECT_EQ(state.rip, 0x1000u);
  EXPECT_EQ(pushed(0), 0x101u);
}

TEST_F(Interrupts, GateToNonLongCodeIsRefused) {
  set_idt64(0x80, 0x1000, kInterruptGate, 3, 0, kCode32);
  EXPECT_ERROR(run({0xcd, 0x80}), kGP, kCode32);
  state.tr.limit = 10;
  set_idt64(0x80, 0x1000, kInterruptGate, 3, 1);
  EXPECT_ERROR(run({0xcd, 0x80}), kTS, kTssSel);
}

TEST_F(Interrupts, ProtectedModeInnerLevel) {
  legacy_mode();
  user32();
  set_idt32(0x80, 0x1000, kInterruptGate, 3);
  EXPECT_RUNS(run({0xcd, 0x80}));
  EXPECT_EQ(state.gpr[RSP], kKernelStack - 20);
  EXPECT_EQ(pushed32(0), 0x102u);
  EXPECT_EQ(pushed32(1), kUserCode32);
  EXPECT_EQ(pushed32(3), kUserStack);
  EXPECT_EQ(pushed32(4), kUserStackSel);
  EXPECT_EQ(state.seg[SS].selector, kStack);
  EXPECT_RUNS(run({0xcf}));
  EXPECT_EQ(state.cpl(), 3u);
  EXPECT_EQ(state.rip, 0x102u);
  EXPECT_EQ(state.gpr[RSP], kUserStack);
}

TEST_F(Interrupts, ProtectedModeBadInnerStack) {
  legacy_mode();
  user32();
  set_idt32(0x80, 0x1000, kInterruptGate, 3);
  put<u32>(kTss + 8, kUserStackSel);
  EXPECT_ERROR(run({0xcd, 0x80}), kTS, kUserStackSel & ~3);
  put<u32>(kTss + 8, kAbsentData);
  EXPECT_ERROR(run({0xcd, 0x80}), kSS, kAbsentData);
  put<u32>(kTss + 8, 0);
  EXPECT_ERROR(run({0xcd, 0x80}), kTS, 0);
}

TEST_F(Interrupts, SixteenBitGate) {
  legacy_mode();
  set_idt32(0x80, 0x1000, kInterruptGate16, 3);
  EXPECT_RUNS(run({0xcd, 0x80}));
  EXPECT_EQ(state.gpr[RSP], kKernelStack - 6);
  EXPECT_EQ(get<u16>(state.gpr[RSP]), 0x102);
}

TEST_F(Interrupts, RealMode) {
  real_mode();
  put<u32>(kIdt + 0x21 * 4, 0x0200'0040);
  state.rflags |= flag::IF | flag::ZF;
  EXPECT_RUNS(run({0xcd, 0x21}));
  EXPECT_EQ(state.rip, 0x40u);
  EXPECT_EQ(state.seg[CS].base, 0x2000u);
  EXPECT_EQ(get<u16>(kKernelStack - 6), 0x102);
  EXPECT_EQ(get<u16>(kKernelStack - 2), flag::IF | flag::ZF | 2);
  EXPECT_FALSE(state.rflags & flag::IF);
  EXPECT_RUNS(run({0xcf}));
  EXPECT_EQ(state.rip, 0x102u);
  EXPECT_EQ(state.seg[CS].base, 0u);
  EXPECT_TRUE(state.rflags & flag::IF);
}

TEST_F(Interrupts, TaskGateForTheDoubleFault) {
  legacy_mode();
  set_gate(kIdt + kDF * 8, kOtherTssSel, 0, kTaskGate, 0, 0, false);
  put<u32>(kOtherTss + 28, 0x7000);          // CR3
  put<u32>(kOtherTss + 32, 0x1234);          // EIP
  put<u32>(kOtherTss + 36, 2);               // EFLAGS
  put<u32>(kOtherTss + 36 + 4, 0xaaaa);      // EAX
  put<u32>(kOtherTss + 40 + 16, kIstStack);  // ESP
  for (const u64 at : {72, 80, 84, 88, 92}) put<u32>(kOtherTss + at, kStack);
  put<u32>(kOtherTss + 76, kCode32);
  state.gpr[RBX] = 0xbbbb;
  deliver_event(cpu, EventKind::fault, {kDF, true, 0});
  EXPECT_EQ(state.rip, 0x1234u);
  EXPECT_EQ(state.gpr[RAX], 0xaaaau);
  EXPECT_EQ(state.gpr[RSP], kIstStack - 4) << "error code";
  EXPECT_EQ(state.tr.selector, kOtherTssSel);
  EXPECT_TRUE(state.rflags & flag::NT);
  EXPECT_TRUE(state.cr0 & cr0bit::TS);
  EXPECT_EQ(get<u16>(kOtherTss), kTssSel);
  EXPECT_EQ(get<u32>(kTss + 32), 0x100u);
  EXPECT_EQ(get<u32>(kTss + 40 + 12), 0xbbbbu);
  EXPECT_EQ(descriptor(kOtherTssSel) >> 40 & 15, u64{kTssBusy});
  // And back. The handler's IRET pops nothing.
  set_descriptor(kTssSel, 0x00008b0030000067);
  EXPECT_RUNS(run({0xcf}));
  EXPECT_EQ(state.rip, 0x100u);
  EXPECT_EQ(state.gpr[RBX], 0xbbbbu);
  EXPECT_EQ(state.tr.selector, kTssSel);
  EXPECT_FALSE(state.rflags & flag::NT);
  EXPECT_EQ(descriptor(kOtherTssSel) >> 40 & 15, u64{kTssAvailable});
}

// --- IRET in IA-32e mode.

class Iret : public SystemTest {
 protected:
  void frame(u64 rip, u64 cs, u64 flags, u64 rsp, u64 ss) {
    state.gpr[RSP] = kKernelStack - 40;
    const u64 values[] = {rip, cs, flags, rsp, ss};
    for (unsigned i = 0; i < 5; ++i) put<u64>(state.gpr[RSP] + i * 8, values[i]);
  }
  std::optional<GuestFault> iretq() { return run({0x48, 0xcf}); }
};

TEST_F(Iret, ToUser64) {
  frame(0x400000, kUserCode64, 0x246 | flag::IOPL, kUserStack, kUserStackSel);
  state.nmi_blocked = true;
  state.seg[FS].base = 0x7777'0000'0000;
  state.seg[FS].selector = 0;
  EXPECT_RUNS(iretq());
  EXPECT_EQ(state.rip, 0x400000u);
  EXPECT_EQ(state.cpl(), 3u);
  EXPECT_EQ(state.gpr[RSP], kUserStack);
  EXPECT_EQ(state.rflags, 0x246 | flag::IOPL);
  EXPECT_EQ(state.seg[DS].selector, 0) << "DPL 0 data is unloaded";
  EXPECT_FALSE(state.seg[DS].present());
  EXPECT_EQ(state.seg[FS].base, 0x7777'0000'0000u);
  EXPECT_FALSE(state.nmi_blocked);
}

TEST_F(Iret, ToCompatibilityMode) {
  frame(0x400000, kUserCode32, 0x202, kUserStack, kUserStackSel);
  EXPECT_RUNS(iretq());
  EXPECT_FALSE(state.mode64());
  EXPECT_EQ(state.code_size(), 4u);
  long_mode();
  frame(u64{1} << 32, kUserCode32, 0x202, kUserStack, kUserStackSel);
  EXPECT_ERROR(iretq(), kGP, 0);  // beyond the limit
}

TEST_F(Iret, SameLevelPopsTheStackToo) {
  frame(0x2000, kCode64, 0x202, 0x4321, 0);
  EXPECT_RUNS(iretq());
  EXPECT_EQ(state.gpr[RSP], 0x4321u);
  EXPECT_EQ(state.seg[SS].selector, 0);
  EXPECT_EQ(state.cpl(), 0u);
}

TEST_F(Iret, BadFramesChangeNothing) {
  const auto expect_gp = [&](u16 error) {
    const u64 rsp = state.gpr[RSP], flags = state.rflags;
    EXPECT_ERROR(iretq(), kGP, error);
    EXPECT_EQ(state.gpr[RSP], rsp);
    EXPECT_EQ(state.rflags, flags);
    EXPECT_EQ(state.seg[CS].selector, kCode64);
    EXPECT_EQ(state.rip, 0x100u);
  };
  frame(0x800000000000, kUserCode64, 0x202, kUserStack, kUserStackSel);
  expect_gp(0);
  frame(0x1000, kUserCode64, 0x202, kUserStack, 0);
  expect_gp(0);  // null SS at CPL 3
  frame(0x1000, 0, 0x202, kUserStack, kUserStackSel);
  expect_gp(0);
  frame(0x1000, kUserCode64, 0x202, kUserStack, kStack);
  expect_gp(kStack);
  frame(0x1000, kUserStackSel, 0x202, kUserStack, kUserStackSel);
  expect_gp(kUserStackSel & ~3);
  frame(0x1000, 0x1003, 0x202, kUserStack, kUserStackSel);
  expect_gp(0x1000);
  state.rflags |= flag::NT;
  frame(0x1000, kUserCode64, 0x202, kUserStack, kUserStackSel);
  expect_gp(0);
}

TEST_F(Iret, UserCannotChangeIfOrIopl) {
  user64();
  state.rflags = flag::kReserved1 | flag::IF;
  state.gpr[RSP] = kUserStack - 40;
  const u64 values[] = {0x1000, kUserCode64, flag::IOPL | flag::CF | flag::RF | flag::VIP, kUserStack,
                        kUserStackSel};
  for (unsigned i = 0; i < 5; ++i) put<u64>(state.gpr[RSP] + i * 8, values[i]);
  EXPECT_RUNS(iretq());
  EXPECT_EQ(state.rflags, flag::kReserved1 | flag::IF | flag::CF | flag::RF);
  // An inner level cannot be reached.
  state.gpr[RSP] = kUserStack - 40;
  put<u64>(state.gpr[RSP] + 8, kCode64);
  EXPECT_ERROR(iretq(), kGP, kCode64);
}

TEST_F(Iret, ToVirtual8086ModeAndBack) {
  legacy_mode();
  state.gpr[RSP] = kKernelStack - 36;
  const u32 values[] = {0x10, 0x200, u32(flag::VM | flag::IF | 2), 0x100, 0x300, 1, 2, 3, 4};
  for (unsigned i = 0; i < 9; ++i) put<u32>(state.gpr[RSP] + i * 4, values[i]);
  EXPECT_RUNS(run({0xcf}));
  EXPECT_TRUE(state.v8086());
  EXPECT_EQ(state.cpl(), 3u);
  EXPECT_EQ(state.seg[CS].base, 0x2000u);
  EXPECT_EQ(state.seg[SS].base, 0x3000u);
  EXPECT_EQ(state.seg[GS].selector, 4);
  EXPECT_EQ(state.rip, 0x10u);
  EXPECT_ERROR(run({0xcd, 0x21}), kGP, 0);  // IOPL 0
  set_idt32(kGP, 0x1000);
  deliver_event(cpu, EventKind::fault, fault_gp());
  EXPECT_FALSE(state.v8086());
  EXPECT_EQ(state.gpr[RSP], kKernelStack - 40);
  EXPECT_EQ(pushed32(1), 0x10u);
  EXPECT_EQ(pushed32(9), 4u);
  EXPECT_EQ(state.seg[DS].selector, 0);
}

}  // namespace
}  // namespace deja
