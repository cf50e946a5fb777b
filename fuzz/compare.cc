#include "fuzz/compare.h"

#include <fmt/format.h>

#include <cstring>
#include <string_view>

#include "fuzz/native.h"
#include "guest/fault.h"

namespace deja::fuzz {

Bytes TestCase::code() const {
  Bytes all;
  for (const Bytes& insn : insns) all.insert(all.end(), insn.begin(), insn.end());
  all.push_back(0xcc);
  return all;
}
u64 TestCase::end() const {
  u64 address = start;
  for (const Bytes& insn : insns) address += insn.size();
  return address;
}

std::string disassembly(const TestCase& test) {
  std::string out;
  u64 address = test.start;
  for (const Bytes& insn : test.insns) {
    std::string hex;
    for (u8 b : insn) hex += fmt::format("{:02x} ", b);
    out += fmt::format("  {:08x}  {:45} {}\n", address, hex,
                       disassemble(insn.data(), insn.size(), CodeSize::bits64, address));
    address += insn.size();
  }
  return out;
}

namespace {

constexpr const char* kGprName[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

std::string hex_bytes(const u8* p, unsigned n) {
  std::string out;
  for (unsigned i = n; i-- > 0;) out += fmt::format("{:02x}", p[i]);
  return out;
}

const char* end_name(End end) {
  switch (end) {
    case End::sentinel:
      return "ran to the end";
    case End::fault:
      return "fault";
    case End::timeout:
      return "timeout";
    case End::excluded:
      return "excluded";
  }
  return "?";
}

// Linux reports an access from the last page of user space on as a protection violation whatever its page
// tables say, so the P bit of the error code means nothing there.
u64 comparable_error(const RunResult& r) { return r.cr2 >= kLastUserPage ? r.error & ~u64{1} : r.error; }

// An 80-bit store is two stores on hardware, the first of which stays when the second faults. The engine has
// none of it then, which the architecture allows as well.
bool store_may_be_torn(const TestCase& test, const RunResult& r) {
  const Insn insn = last_insn(test, r);
  return (insn.mnemonic == ZYDIS_MNEMONIC_FSTP && insn.has_mem && insn.op[0].size == 10) ||
         insn.mnemonic == ZYDIS_MNEMONIC_FBSTP;
}

// CR2 of an instruction with an operand of many bytes: which byte of the page is reported first differs
// between cores; the engine reports the lowest one that cannot be accessed.
bool cr2_is_a_page(const TestCase& test, const RunResult& r) {
  switch (last_insn(test, r).mnemonic) {
    case ZYDIS_MNEMONIC_FLDENV:
    case ZYDIS_MNEMONIC_FRSTOR:
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
      return true;
    default:
      return false;
  }
}

}  // namespace

Insn last_insn(const TestCase& test, const RunResult& r) {
  const Bytes code = test.code();
  const u64 at = r.state.rip - test.start;
  Insn insn;
  if (at >= code.size() ||
      decode(&code[at], code.size() - at, CodeSize::bits64, true, &insn) != DecodeStatus::ok)
    insn.mnemonic = ZYDIS_MNEMONIC_INVALID;
  return insn;
}

std::string describe(const UserState& s) {
  std::string out;
  for (int i = 0; i < 16; i++)
    out += fmt::format("{:>4} {:016x}{}", kGprName[i], s.gpr[i], i % 4 == 3 ? "\n" : "");
  out += fmt::format(" rip {:016x} rflags {:08x} fcw {:04x} fsw {:04x} ftw {:02x} mxcsr {:08x}\n", s.rip,
                     s.rflags, s.fpu.fcw, s.fpu.fsw, s.fpu.ftw, s.fpu.mxcsr);
  for (int i = 0; i < 8; i++)
    out += fmt::format(" st{} {}{}", i, hex_bytes(s.fpu.st[i], 10), i % 4 == 3 ? "\n" : "");
  for (int i = 0; i < 16; i++)
    out += fmt::format(" ymm{:<2} {}{}", i, hex_bytes(s.fpu.ymm[i], 32), i % 2 ? "\n" : "");
  return out;
}

std::string differences(const TestCase& test, const RunResult& a, const RunResult& b, const char* name_a,
                        const char* name_b) {
  const auto skipped = [](const RunResult& r) { return r.end == End::timeout || r.end == End::excluded; };
  if (skipped(a) || skipped(b)) return "";
  // What the harness maps, a test can read natively.
  for (const RunResult* r : {&a, &b})
    if (r->vector == kPF && r->cr2 - kSharedAddress < kSharedSize) return "";
  if (a.end == End::fault && b.end == End::fault && store_may_be_torn(test, a)) return "";
  std::string out;
  const auto differ = [&](std::string_view what, std::string_view x, std::string_view y) {
    out += fmt::format("  {}: {} {}, {} {}\n", what, name_a, x, name_b, y);
  };
  // Nearly all is alike, and formatting it would take much longer than running a test.
  const auto number = [&](const char* what, u64 x, u64 y) {
    if (x != y) differ(what, fmt::format("{:x}", x), fmt::format("{:x}", y));
  };
  const auto bytes = [&](const char* what, u64 which, const u8* x, const u8* y, unsigned n) {
    if (std::memcmp(x, y, n) != 0)
      differ(fmt::format(fmt::runtime(what), which), hex_bytes(x, n), hex_bytes(y, n));
  };
  if (a.end != b.end) differ("end", end_name(a.end), end_name(b.end));
  number("vector", a.vector, b.vector);
  const u64 cr2_mask = a.cr2 != b.cr2 && cr2_is_a_page(test, a) ? ~u64{kPageSize - 1} : ~u64{0};
  number("cr2", a.cr2 & cr2_mask, b.cr2 & cr2_mask);
  number("error code", comparable_error(a), comparable_error(b));
  for (int i = 0; i < 16; i++) number(kGprName[i], a.state.gpr[i], b.state.gpr[i]);
  number("rip", a.state.rip, b.state.rip);
  number("rflags", a.state.rflags & kFlagsCompared, b.state.rflags & kFlagsCompared);
  const FpuState &f = a.state.fpu, &g = b.state.fpu;
  number("fcw", f.fcw, g.fcw);
  number("fsw", f.fsw, g.fsw);
  number("ftw", f.ftw, g.ftw);
  number("mxcsr", f.mxcsr, g.mxcsr);
  for (unsigned i = 0; i < 8; i++) bytes("st{}", i, f.st[i], g.st[i], 10);
  for (unsigned i = 0; i < 16; i++) bytes("ymm{}", i, f.ymm[i], g.ymm[i], 32);
  for (unsigned i = 0; i < kDataSize; i += 16)
    bytes("memory {:x}", kDataAddress + i, &a.data[i], &b.data[i], 16);
  return out;
}

}  // namespace deja::fuzz
