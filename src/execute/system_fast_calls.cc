// SYSCALL, SYSRET, SYSENTER and SYSEXIT (SDM vol. 2B, vol. 3A 5.8.7, 5.8.8).
#include "execute/system.h"

namespace deja {
namespace {

// The flat segments these instructions load without looking at any table.
SegmentRegister flat_code(u16 selector, unsigned dpl, bool long_mode) {
  // G, P, S, code, readable, accessed; L or D.
  return {.base = 0,
          .limit = 0xffffffff,
          .selector = selector,
          .attr = static_cast<u16>((long_mode ? 0xa09b : 0xc09b) | dpl << 5)};
}

SegmentRegister flat_stack(u16 selector, unsigned dpl) {
  return {.base = 0, .limit = 0xffffffff, .selector = selector, .attr = static_cast<u16>(0xc093 | dpl << 5)};
}

void syscall(Vcpu& cpu, const Insn&) {
  CpuState& s = cpu.state;
  if (!s.mode64() || !(s.efer & eferbit::SCE)) throw fault_ud();
  s.gpr[RCX] = cpu.next_rip;
  s.gpr[R11] = s.rflags & ~flag::RF;
  s.rflags = (s.rflags & ~s.msr.fmask) | flag::kReserved1;
  const u16 selector = static_cast<u16>(s.msr.star >> 32) & 0xfffc;
  s.seg[CS] = flat_code(selector, 0, true);
  s.seg[SS] = flat_stack(static_cast<u16>(selector + 8), 0);
  cpu.next_rip = s.msr.lstar;
}

void sysret(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  if (!s.mode64() || !(s.efer & eferbit::SCE)) throw fault_ud();
  require_cpl0(s);
  if (insn.rex_w && !is_canonical(s.gpr[RCX], cpu.model.linear_bits)) throw fault_gp();
  const u16 selector = static_cast<u16>(s.msr.star >> 48);
  if (insn.rex_w) {
    s.seg[CS] = flat_code(static_cast<u16>((selector + 16) | 3), 3, true);
    cpu.next_rip = s.gpr[RCX];
  } else {
    s.seg[CS] = flat_code(static_cast<u16>(selector | 3), 3, false);
    cpu.next_rip = low32(s.gpr[RCX]);
  }
  s.seg[SS] = flat_stack(static_cast<u16>((selector + 8) | 3), 3);
  s.rflags = (s.gpr[R11] & 0x3c7fd7) | flag::kReserved1;
}

void sysenter(Vcpu& cpu, const Insn&) {
  CpuState& s = cpu.state;
  const u16 selector = static_cast<u16>(s.msr.sysenter_cs) & 0xfffc;
  if (!s.protected_mode() || selector == 0) throw fault_gp();
  const bool long_mode = s.long_mode_active();
  s.rflags &= ~(flag::VM | flag::IF);
  s.seg[CS] = flat_code(selector, 0, long_mode);
  s.seg[SS] = flat_stack(static_cast<u16>(selector + 8), 0);
  s.gpr[RSP] = long_mode ? s.msr.sysenter_esp : low32(s.msr.sysenter_esp);
  cpu.next_rip = long_mode ? s.msr.sysenter_eip : low32(s.msr.sysenter_eip);
}

void sysexit(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  const u16 selector = static_cast<u16>(s.msr.sysenter_cs) & 0xfffc;
  if (!s.protected_mode() || s.cpl() != 0 || selector == 0) throw fault_gp();
  const bool to_64bit = insn.rex_w;
  if (to_64bit &&
      (!is_canonical(s.gpr[RCX], cpu.model.linear_bits) || !is_canonical(s.gpr[RDX], cpu.model.linear_bits)))
    throw fault_gp();
  const unsigned code = to_64bit ? 32 : 16;
  s.seg[CS] = flat_code(static_cast<u16>((selector + code) | 3), 3, to_64bit);
  s.seg[SS] = flat_stack(static_cast<u16>((selector + code + 8) | 3), 3);
  s.gpr[RSP] = to_64bit ? s.gpr[RCX] : low32(s.gpr[RCX]);
  cpu.next_rip = to_64bit ? s.gpr[RDX] : low32(s.gpr[RDX]);
}

}  // namespace

InsnHelper find_fast_call_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL:
      return syscall;
    case ZYDIS_MNEMONIC_SYSRET:
      return sysret;
    case ZYDIS_MNEMONIC_SYSENTER:
      return sysenter;
    case ZYDIS_MNEMONIC_SYSEXIT:
      return sysexit;
    default:
      return nullptr;
  }
}

}  // namespace deja
