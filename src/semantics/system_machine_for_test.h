// A vCPU with descriptor tables, a TSS and stacks, for tests of system instructions and of event delivery.
#pragma once

#include "semantics/segments.h"
#include "semantics/vcpu_for_test.h"

namespace deja {

// Flat memory in which some pages are supervisor-only: user-mode accesses and pushes fault there. It shows
// once more from kHigh on, of which nothing is left in 32 bits.
class SystemMmu : public FakeMmu {
 public:
  static constexpr u64 kHigh = 0xffff888000100000;
  explicit SystemMmu(CpuState& state) : state_(state) {}
  std::map<u64, bool> supervisor_pages;
  int paging_changes = 0;

  void read_bytes(Gva a, void* out, unsigned size, Rights rights) override {
    FakeMmu::read_bytes(allowed(place(a), rights, 0), out, size, rights);
  }
  void read_bytes(SystemGva a, void* out, unsigned size, Rights rights) override {
    FakeMmu::read_bytes(allowed(place(a), rights, 0), out, size, rights);
  }
  void write_bytes(Gva a, const void* data, unsigned size, Rights rights) override {
    FakeMmu::write_bytes(allowed(place(a), rights, 2), data, size, rights);
  }
  void write_bytes(SystemGva a, const void* data, unsigned size, Rights rights) override {
    FakeMmu::write_bytes(allowed(place(a), rights, 2), data, size, rights);
  }
  void probe(Gva a, unsigned size, Access access, Rights rights) override {
    FakeMmu::probe(allowed(place(a), rights, access == Access::write ? 2 : 0), size, access, rights);
  }
  void probe(SystemGva a, unsigned size, Access access, Rights rights) override {
    FakeMmu::probe(allowed(place(a), rights, access == Access::write ? 2 : 0), size, access, rights);
  }
  bool read_physical(Gpa a, void* out, unsigned size) override {
    if (a.value + size > bytes.size()) return false;
    std::memcpy(out, &bytes[a.value], size);
    return true;
  }
  void paging_changed() override { ++paging_changes; }

  static u64 low(u64 address) { return address >= kHigh ? address - kHigh : address; }

 private:
  Gva place(Gva a) const { return Gva(state_.mode64() ? low(a.value) : static_cast<u32>(a.value)); }
  Gva place(SystemGva a) const {
    return Gva(state_.long_mode_active() ? low(a.value) : static_cast<u32>(a.value));
  }
  Gva allowed(Gva a, Rights rights, u32 error) const {
    const bool user = rights == Rights::user || (rights == Rights::current && state_.cpl() == 3);
    if (user && supervisor_pages.contains(a.value / kPageSize)) throw fault_pf(a.value, error | 5);
    return a;
  }
  CpuState& state_;
};

class SystemTest : public ::testing::Test {
 protected:
  // Where things stand.
  static constexpr u64 kGdt = 0x1000, kIdt = 0x2000, kTss = 0x3000, kOtherTss = 0x3800, kKernelStack = 0x5000,
                       kIstStack = 0x7000, kUserStack = 0x9000, kData = 0xa000, kPdpt = 0xc000;
  // Selectors.
  static constexpr u16 kCode64 = 0x08, kStack = 0x10, kUserCode32 = 0x1b, kUserStackSel = 0x23,
                       kUserCode64 = 0x2b, kTssSel = 0x30, kCode32 = 0x40, kAbsentData = 0x48,
                       kConforming64 = 0x50, kGate = 0x58, kOtherTssSel = 0x68, kReadOnly = 0x70,
                       kCode16 = 0x78, kUserData = 0x83;

  SystemTest() {
    reset_cpu(state, 0);
    set_descriptor(kCode64, 0x00af9a000000ffff);
    set_descriptor(kStack, 0x00cf92000000ffff);
    set_descriptor(kUserCode32, 0x00cffa000000ffff);
    set_descriptor(kUserStackSel, 0x00cff2000000ffff);
    set_descriptor(kUserCode64, 0x00affa000000ffff);
    set_descriptor(kCode32, 0x00cf9a000000ffff);
    set_descriptor(kAbsentData, 0x00cf12000000ffff);
    set_descriptor(kConforming64, 0x00af9e000000ffff);
    set_descriptor(kReadOnly, 0x00cf90000000ffff);
    set_descriptor(kCode16, 0x000f9a000000ffff);
    set_descriptor(kUserData, 0x00cff2000000ffff);
    set_descriptor(kTssSel, 0x0000890030000067);
    set_descriptor(kOtherTssSel, 0x0000890038000067);
    state.gdtr = {kGdt, 0x8f};
    state.idtr = {kIdt, 0xfff};
    state.tr = {.base = kTss, .limit = 0x67, .selector = kTssSel, .attr = 0x8b};
    state.rip = 0x100;
    long_mode();
  }

  u16 table_offset(u16 selector) const { return selector & 0xfff8; }
  void set_descriptor(u16 selector, u64 raw) { put<u64>(kGdt + table_offset(selector), raw); }
  u64 descriptor(u16 selector) const { return get<u64>(kGdt + table_offset(selector)); }
  template <class T>
  void put(u64 address, T value) {
    std::memcpy(&mmu.bytes[address], &value, sizeof value);
  }
  template <class T>
  T get(u64 address) const {
    T value;
    std::memcpy(&value, &mmu.bytes[address], sizeof value);
    return value;
  }

  SegmentRegister segment(u16 selector) const {
    return make_segment(selector, Descriptor{SystemGva(0), descriptor(selector)});
  }
  void set_level(u16 code, u16 stack) {
    state.seg[CS] = segment(code);
    state.seg[SS] = segment(stack);
    for (const Seg s : {DS, ES, FS, GS}) state.seg[s] = segment(stack);
  }
  void long_mode() {
    state.cr0 = cr0bit::PE | cr0bit::PG | cr0bit::NE | cr0bit::ET;
    state.cr4 = cr4bit::PAE;
    state.efer = eferbit::LME | eferbit::LMA | eferbit::SCE;
    state.gpr[RSP] = kKernelStack;
    put<u64>(kTss + 4, kKernelStack);
    put<u64>(kTss + 36, kIstStack);
    set_level(kCode64, kStack);
  }
  // Tables, TSS and the stacks that it names are in the upper half.
  void tables_in_upper_half() {
    constexpr u64 kHigh = SystemMmu::kHigh;
    state.gdtr.base = kHigh + kGdt;
    state.idtr.base = kHigh + kIdt;
    state.tr.base = kHigh + kTss;
    put<u64>(kTss + 4, kHigh + kKernelStack);
    put<u64>(kTss + 36, kHigh + kIstStack);
  }
  void user64() {
    set_level(kUserCode64, kUserStackSel);
    state.gpr[RSP] = kUserStack;
  }
  void legacy_mode() {
    state.cr0 = cr0bit::PE | cr0bit::NE | cr0bit::ET;
    state.cr4 = 0;
    state.efer = 0;
    state.gpr[RSP] = kKernelStack;
    put<u32>(kTss + 4, static_cast<u32>(kKernelStack));
    put<u32>(kTss + 8, kStack);
    set_level(kCode32, kStack);
  }
  void user32() {
    set_level(kUserCode32, kUserStackSel);
    state.gpr[RSP] = kUserStack;
  }
  void real_mode() {
    state.cr0 = cr0bit::ET;
    state.cr4 = state.efer = 0;
    for (SegmentRegister& s : state.seg) s = {.base = 0, .limit = 0xffff, .selector = 0, .attr = 0x93};
    state.idtr = {kIdt, 0x3ff};
    state.gpr[RSP] = kKernelStack;
  }

  // type: kInterruptGate…; 16-byte form when `wide`.
  void set_gate(u64 address, u16 selector, u64 offset, unsigned type, unsigned dpl, unsigned low_bits,
                bool wide) {
    put<u64>(address, (offset & 0xffff) | u64{selector} << 16 | u64{low_bits} << 32 |
                          u64{type | dpl << 5 | 0x80} << 40 | (offset & 0xffff0000) << 32);
    if (wide) put<u64>(address + 8, offset >> 32);
  }
  void set_idt64(u8 vector, u64 offset, unsigned type = kInterruptGate, unsigned dpl = 0, unsigned ist = 0,
                 u16 selector = kCode64) {
    set_gate(kIdt + vector * 16, selector, offset, type, dpl, ist, true);
  }
  void set_idt32(u8 vector, u64 offset, unsigned type = kInterruptGate, unsigned dpl = 0,
                 u16 selector = kCode32) {
    set_gate(kIdt + vector * 8, selector, offset, type, dpl, 0, false);
  }

  CodeSize code_size() const {
    return state.mode64() ? CodeSize::bits64 : state.code_size() == 4 ? CodeSize::bits32 : CodeSize::bits16;
  }
  // Executes one instruction as the run loop does; the exception it raises, if any.
  std::optional<GuestFault> run(std::initializer_list<u8> code) {
    u8 bytes[15] = {};
    std::copy(code.begin(), code.end(), bytes);
    Insn insn;
    EXPECT_EQ(decode(bytes, sizeof bytes, code_size(), state.seg[SS].big(), &insn), DecodeStatus::ok);
    Helper helper = find_system_helper(insn);
    if (!helper) helper = find_legacy_helper(insn);
    if (!helper) helper = find_near_helper(insn);
    EXPECT_TRUE(helper);
    if (!helper) return {};
    cpu.next_rip = state.rip + insn.length;
    try {
      helper(cpu, insn);
    } catch (const GuestFault& fault) {
      return fault;
    }
    state.rip = cpu.next_rip;
    return {};
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
  u64 pushed(unsigned index) const { return get<u64>(SystemMmu::low(state.gpr[RSP]) + index * 8); }
  u32 pushed32(unsigned index) const { return get<u32>(state.gpr[RSP] + index * 4); }

  CpuState state;
  SystemMmu mmu{state};
  FakePlatform platform;
  Clock clock;
  const CpuModel model = *parse_cpu_model("x86-64-v3");
  Vcpu cpu{state, mmu, platform, clock, model};
};

#define EXPECT_ERROR(expression, expected_vector, expected_error) \
  do {                                                            \
    const std::optional<GuestFault> fault_ = (expression);        \
    ASSERT_TRUE(fault_.has_value()) << "no exception";            \
    EXPECT_EQ(int{fault_->vector}, int{expected_vector});         \
    EXPECT_TRUE(fault_->has_error);                               \
    EXPECT_EQ(fault_->error, u32{expected_error});                \
  } while (0)
#define EXPECT_RUNS(expression) EXPECT_FALSE((expression).has_value())

}  // namespace deja
