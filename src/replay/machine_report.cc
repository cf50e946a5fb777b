#include "replay/machine_report.h"

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "base/printable.h"
#include "decode/insn.h"
#include "guest/page_walk.h"

namespace deja {
namespace {

constexpr const char* kGprNames[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                       "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
constexpr const char* kSegNames[6] = {"es", "cs", "ss", "ds", "fs", "gs"};

using Rows = std::vector<std::pair<std::string, std::string>>;

void add_segment(Rows& rows, const std::string& name, const SegmentRegister& s) {
  rows.emplace_back(name, show("{:04x} base={:x} limit={:x} attr={:x}", s.selector, s.base, s.limit, s.attr));
}

std::string hex_bytes(const u8* p, std::size_t n) {
  std::string s;
  for (std::size_t i = n; i-- > 0;) s += show("{:02x}", p[i]);
  return s;
}

// Every register by name, so that two vCPUs are compared in the words they are printed in.
Rows registers(const CpuState& s) {
  Rows rows;
  const auto hex = [&](const std::string& name, u64 v) { rows.emplace_back(name, show("{:016x}", v)); };
  for (unsigned i = 0; i < 16; ++i) hex(kGprNames[i], s.gpr[i]);
  hex("rip", s.rip);
  hex("rflags", s.rflags);
  hex("cr0", s.cr0), hex("cr2", s.cr2), hex("cr3", s.cr3), hex("cr4", s.cr4);
  hex("efer", s.efer), hex("xcr0", s.xcr0);
  for (unsigned i = 0; i < 4; ++i) hex(show("dr{}", i), s.dr[i]);
  hex("dr6", s.dr6), hex("dr7", s.dr7);
  for (unsigned i = 0; i < 4; ++i) hex(show("pdpte{}", i), s.pdpte[i]);
  for (unsigned i = 0; i < 6; ++i) add_segment(rows, kSegNames[i], s.seg[i]);
  add_segment(rows, "ldtr", s.ldtr);
  add_segment(rows, "tr", s.tr);
  rows.emplace_back("gdtr", show("{:x} limit={:x}", s.gdtr.base, s.gdtr.limit));
  rows.emplace_back("idtr", show("{:x} limit={:x}", s.idtr.base, s.idtr.limit));
  const Msrs& m = s.msr;
  hex("apic_base", m.apic_base), hex("pat", m.pat), hex("star", m.star), hex("lstar", m.lstar),
      hex("cstar", m.cstar);
  hex("fmask", m.fmask), hex("kernel_gs_base", m.kernel_gs_base), hex("sysenter_cs", m.sysenter_cs);
  hex("sysenter_esp", m.sysenter_esp), hex("sysenter_eip", m.sysenter_eip), hex("tsc_aux", m.tsc_aux);
  hex("tsc_adjust", m.tsc_adjust), hex("misc_enable", m.misc_enable), hex("spec_ctrl", m.spec_ctrl);
  hex("debugctl", m.debugctl);
  hex("fcw", s.fpu.fcw), hex("fsw", s.fpu.fsw), hex("ftw", s.fpu.ftw), hex("mxcsr", s.fpu.mxcsr);
  for (unsigned i = 0; i < 8; ++i) rows.emplace_back(show("st{}", i), hex_bytes(s.fpu.st[i], 10));
  for (unsigned i = 0; i < 16; ++i) rows.emplace_back(show("ymm{}", i), hex_bytes(s.fpu.ymm[i], 32));
  hex("activity", static_cast<u64>(s.activity));
  hex("sti_shadow", s.sti_shadow), hex("mov_ss_shadow", s.mov_ss_shadow), hex("nmi_blocked", s.nmi_blocked);
  hex("nmi_pending", s.nmi_pending), hex("pending_dbg", s.pending_dbg), hex("pause_run", s.pause_run);
  return rows;
}

struct SavedDevice {
  std::string name;
  std::string bytes;
};

// The parts of Machine::save_devices(): the devices, then what the machine keeps itself.
std::vector<SavedDevice> split_devices(const std::vector<u8>& saved) {
  std::vector<SavedDevice> out;
  std::size_t at = 0;
  while (at < saved.size()) {
    const std::size_t length = saved[at];
    u32 size = 0;
    if (length == 0 || at + 1 + length + sizeof size > saved.size()) break;
    std::string name(reinterpret_cast<const char*>(&saved[at + 1]), length);
    if (!std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < 0x7f; })) break;
    std::memcpy(&size, &saved[at + 1 + length], sizeof size);
    const std::size_t body = at + 1 + length + sizeof size;
    if (size > saved.size() - body) break;
    out.push_back({std::move(name), std::string(reinterpret_cast<const char*>(saved.data()) + body, size)});
    at = body + size;
  }
  out.push_back(
      {"machine", std::string(reinterpret_cast<const char*>(saved.data()) + at, saved.size() - at)});
  return out;
}

std::string differing_registers(Machine& a, Machine& b) {
  std::string text;
  for (unsigned i = 0; i < a.vcpu_count(); ++i) {
    const Rows ra = registers(a.cpu(i)), rb = registers(b.cpu(i));
    for (std::size_t k = 0; k < ra.size(); ++k) {
      if (ra[k].second == rb[k].second) continue;
      text += show("  vCPU {} {:<8} {}\n  {:>15} {}\n", i, ra[k].first, ra[k].second, "", rb[k].second);
    }
  }
  const std::vector<u8> sa = a.save_cpus(), sb = b.save_cpus();
  if (text.empty() && sa != sb) text = "  vCPUs: scheduling or rarely used registers differ\n";
  return text;
}

std::string differing_ram(Machine& a, Machine& b, unsigned limit) {
  std::string text;
  unsigned pages = 0;
  for (u64 frame = 0; frame < a.ram().frames(); ++frame) {
    const Gpa page(frame << kPageShift);
    if (!a.ram().contains(page)) continue;
    const u8 *pa = a.ram().host(page), *pb = b.ram().host(page);
    if (std::memcmp(pa, pb, kPageSize) == 0) continue;
    if (++pages > limit) continue;
    for (u64 i = 0; i < kPageSize; i += 8) {
      if (std::memcmp(pa + i, pb + i, 8) == 0) continue;
      text += show("  RAM at {:#x}    {}\n  {:>15} {}\n", page.value + i, hex_bytes(pa + i, 8), "",
                   hex_bytes(pb + i, 8));
      break;
    }
  }
  if (pages > limit) text += show("  … {} pages of RAM differ in all\n", pages);
  return text;
}

std::string differing_devices(Machine& a, Machine& b) {
  std::string text;
  const auto da = split_devices(a.save_devices()), db = split_devices(b.save_devices());
  for (std::size_t i = 0; i < std::min(da.size(), db.size()); ++i) {
    if (da[i].bytes == db[i].bytes) continue;
    const std::size_t n = std::min(da[i].bytes.size(), db[i].bytes.size());
    const auto at = static_cast<std::size_t>(
        std::mismatch(da[i].bytes.begin(), da[i].bytes.begin() + static_cast<std::ptrdiff_t>(n),
                      db[i].bytes.begin())
            .first -
        da[i].bytes.begin());
    text +=
        show("  device {}: saved state differs from byte {} of {} on\n", da[i].name, at, da[i].bytes.size());
  }
  return text;
}

}  // namespace

std::string next_instruction(Machine& machine, unsigned i) {
  const CpuState& s = machine.cpu(i);
  if (s.activity != Activity::running) return "(halted)";
  const u64 linear = s.mode64() ? s.rip : (s.seg[CS].base + s.rip) & 0xffffffff;
  u8 bytes[15];
  unsigned have = 0;
  while (have < sizeof bytes) {
    const Gva at(linear + have);
    const Walk w = walk_pages(machine.ram(), paging_key(s), at, Access::execute, s.cpl() == 3, false, 52);
    const unsigned n = static_cast<unsigned>(std::min<u64>(sizeof bytes - have, kPageSize - at.offset()));
    if (!w.ok || !machine.ram().read(Gpa(w.page.value + at.offset()), bytes + have, n)) break;
    have += n;
  }
  if (have == 0) return "(page fault)";
  const CodeSize size = s.code_size() == 8   ? CodeSize::bits64
                        : s.code_size() == 4 ? CodeSize::bits32
                                             : CodeSize::bits16;
  Insn insn;
  if (decode(bytes, have, size, s.seg[SS].big(), &insn) != DecodeStatus::ok)
    return "(undefined) " + hex_bytes(bytes, 1);
  std::string code;
  for (unsigned k = 0; k < insn.length; ++k) code += show("{:02x}", bytes[k]);
  return show("{}  [{}]", disassemble(bytes, insn.length, size, linear), code);
}

std::string describe_cpus(Machine& machine) {
  std::string text;
  for (unsigned i = 0; i < machine.vcpu_count(); ++i) {
    const CpuState& s = machine.cpu(i);
    text +=
        show("vCPU {}, before {:04x}:{:x}  {}\n", i, s.seg[CS].selector, s.rip, next_instruction(machine, i));
    const Rows rows = registers(s);
    constexpr std::size_t kShort = 22;  // general registers, RIP, RFLAGS, CR0..CR4: what fits on a screen
    for (std::size_t k = 0; k < kShort; ++k)
      text += show("  {:<6} {}{}", rows[k].first, rows[k].second, k % 3 == 2 || k + 1 == kShort ? "\n" : "");
  }
  return text;
}

std::string describe_differences(Machine& a, Machine& b, unsigned limit) {
  return differing_registers(a, b) + differing_ram(a, b, limit) + differing_devices(a, b);
}

}  // namespace deja
