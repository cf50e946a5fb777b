// A vCPU over a few pages of flat memory, for tests of instruction helpers: no translation, but pages can be
// absent, read-only, MMIO, or tracked.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <initializer_list>
#include <map>
#include <optional>
#include <vector>

#include "semantics/vcpu.h"

namespace deja {

enum class PageKind { ram, read_only, absent, mmio, tracked };

class FakeMmu : public Mmu {
 public:
  static constexpr u64 kPages = 16;
  std::vector<u8> bytes = std::vector<u8>(kPages * kPageSize);
  std::map<u64, PageKind> kinds;  // by page number; others are plain RAM
  std::vector<std::pair<u64, unsigned>> mmio_accesses;

  PageKind kind(u64 address) const {
    const auto it = kinds.find(address / kPageSize);
    if (address / kPageSize >= kPages) return PageKind::absent;
    return it == kinds.end() ? PageKind::ram : it->second;
  }
  void check(Gva a, unsigned size, bool write) const {
    for (u64 p = a.value; p < a.value + size; p = (p | (kPageSize - 1)) + 1) {
      const PageKind k = kind(p);
      if (k == PageKind::absent) throw fault_pf(p, write ? 2 : 0);
      if (k == PageKind::read_only && write) throw fault_pf(p, 3);
    }
  }
  void note(Gva a, unsigned size) {
    if (kind(a.value) == PageKind::mmio) mmio_accesses.emplace_back(a.value, size);
  }
  void read_bytes(Gva a, void* out, unsigned size, Rights) override {
    check(a, size, false);
    note(a, size);
    std::memcpy(out, &bytes[a.value], size);
  }
  void write_bytes(Gva a, const void* data, unsigned size, Rights) override {
    check(a, size, true);
    note(a, size);
    std::memcpy(&bytes[a.value], data, size);
  }
  void probe(Gva a, unsigned size, Access access, Rights) override {
    check(a, size, access == Access::write);
  }
  void read_bytes(SystemGva a, void* out, unsigned size, Rights rights) override {
    read_bytes(Gva(a.value), out, size, rights);
  }
  void write_bytes(SystemGva a, const void* data, unsigned size, Rights rights) override {
    write_bytes(Gva(a.value), data, size, rights);
  }
  void probe(SystemGva a, unsigned size, Access access, Rights rights) override {
    probe(Gva(a.value), size, access, rights);
  }
  unsigned fetch(Gva, u8*, unsigned) override { return 0; }
  const u8* map_read(Gva a, unsigned size) override {
    EXPECT_LE(a.offset() + size, kPageSize);
    check(a, size, false);
    return kind(a.value) == PageKind::mmio ? nullptr : &bytes[a.value];
  }
  u8* map_write(Gva a, unsigned size) override {
    EXPECT_LE(a.offset() + size, kPageSize);
    check(a, size, true);
    const PageKind k = kind(a.value);
    return k == PageKind::mmio || k == PageKind::tracked ? nullptr : &bytes[a.value];
  }
  bool read_physical(Gpa, void*, unsigned) override { return false; }
  void paging_changed() override {}
};

class FakePlatform : public Platform {
 public:
  std::vector<u32> to_read;
  std::vector<std::pair<u16, u32>> written;
  u32 port_read(u16, unsigned) override {
    if (to_read.empty()) return ~u32{0};
    const u32 v = to_read.front();
    to_read.erase(to_read.begin());
    return v;
  }
  void port_write(u16 port, u32 value, unsigned) override { written.emplace_back(port, value); }
  u64 mmio_read(unsigned, Gpa, unsigned) override { return 0; }
  void mmio_write(unsigned, Gpa, u64, unsigned) override {}
  u64 cr8_read(unsigned) override { return 0; }
  void cr8_write(unsigned, u64) override {}
  bool apic_msr_read(unsigned, u32, u64*) override { return false; }
  bool apic_msr_write(unsigned, u32, u64) override { return false; }
  void apic_base_written(unsigned, u64) override {}
  bool interrupt_pending(unsigned) override { return false; }
  int acknowledge_interrupt(unsigned) override { return -1; }
  u64 tsc() override { return 0; }
  std::vector<std::string> guest_calls;
  GuestCallAnswer guest_call_answer = GuestCallAnswer::taken;
  GuestCallAnswer guest_call(std::string_view line) override {
    if (guest_call_answer == GuestCallAnswer::taken) guest_calls.emplace_back(line);
    return guest_call_answer;
  }
};

// 64-bit mode at CPL 0 with everything that vector instructions want enabled.
class HelperTest : public ::testing::Test {
 protected:
  HelperTest() {
    state.cr0 = cr0bit::PE | cr0bit::PG | cr0bit::NE;
    state.cr4 = cr4bit::PAE | cr4bit::OSFXSR | cr4bit::OSXMMEXCPT | cr4bit::OSXSAVE;
    state.efer = eferbit::LME | eferbit::LMA;
    state.xcr0 = 7;
    for (SegmentRegister& s : state.seg) s = {0, 0xffffffff, 0x10, 0xc093};
    state.seg[CS] = {0, 0xffffffff, 8, 0xa09b};
    state.rip = 0x100;
    cpu.fpu_to_memory = [](Vcpu&) {};
    cpu.fpu_from_memory = [](Vcpu&) { ++fpu_commits; };
    fpu_commits = 0;
  }

  // Flat 16- or 32-bit protected mode.
  void set_legacy_mode(CodeSize size) {
    state.efer = 0;
    state.seg[CS].attr = size == CodeSize::bits32 ? 0xc09b : 0x009b;
    code_size = size;
  }

  Insn decoded(std::initializer_list<u8> code) {
    u8 bytes[15] = {};
    std::copy(code.begin(), code.end(), bytes);
    Insn insn;
    EXPECT_EQ(decode(bytes, sizeof bytes, code_size, true, &insn), DecodeStatus::ok);
    return insn;
  }

  // Runs one call of the helper; the exception it raises, if any.
  std::optional<GuestFault> run(Helper (*find)(const Insn&), std::initializer_list<u8> code) {
    const Insn insn = decoded(code);
    const Helper helper = find(insn);
    EXPECT_TRUE(helper);
    if (!helper) return {};
    cpu.next_rip = state.rip + insn.length;
    try {
      helper(cpu, insn);
    } catch (const GuestFault& fault) {
      return fault;
    }
    return {};
  }
  bool again() const { return cpu.next_rip == state.rip; }

  static inline int fpu_commits = 0;
  CpuState state;
  FakeMmu mmu;
  FakePlatform platform;
  Clock clock;
  CpuModel model;
  Vcpu cpu{state, mmu, platform, clock, model};
  CodeSize code_size = CodeSize::bits64;
};

#define EXPECT_FAULT(expression, expected_vector)          \
  do {                                                     \
    const std::optional<GuestFault> fault_ = (expression); \
    ASSERT_TRUE(fault_.has_value()) << "no exception";     \
    EXPECT_EQ(int{fault_->vector}, int{expected_vector});  \
  } while (0)

}  // namespace deja
