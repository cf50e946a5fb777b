// SYSCALL, SYSRET, SYSENTER and SYSEXIT (SDM vol. 2B, vol. 3A 5.8.7, 5.8.8).
#include "semantics/pure_ops.h"
#include "semantics/system.h"

namespace deja {
namespace {

void syscall(Vcpu& cpu, const Insn&) {
  CpuState& s = cpu.state;
  if (!s.mode64() || !(s.efer & eferbit::SCE)) throw fault_ud();
  enter_system_call(s, cpu.next_rip);
  cpu.next_rip = s.msr.lstar;
}

void sysret(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  if (!s.mode64() || !(s.efer & eferbit::SCE)) throw fault_ud();
  require_cpl0(s);
  if (insn.rex_w && !is_canonical(s, s.gpr[RCX])) throw fault_gp();
  leave_system_call(s, insn.rex_w);
  cpu.next_rip = insn.rex_w ? s.gpr[RCX] : low32(s.gpr[RCX]);
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
  if (to_64bit && (!is_canonical(s, s.gpr[RCX]) || !is_canonical(s, s.gpr[RDX]))) throw fault_gp();
  const unsigned code = to_64bit ? 32 : 16;
  s.seg[CS] = flat_code(static_cast<u16>((selector + code) | 3), 3, to_64bit);
  s.seg[SS] = flat_stack(static_cast<u16>((selector + code + 8) | 3), 3);
  s.gpr[RSP] = to_64bit ? s.gpr[RCX] : low32(s.gpr[RCX]);
  cpu.next_rip = to_64bit ? s.gpr[RDX] : low32(s.gpr[RDX]);
}

}  // namespace

Helper find_fast_call_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_SYSCALL:
      return {syscall, kTrapsByNewFlags};  // FMASK may clear TF
    case ZYDIS_MNEMONIC_SYSRET:
      return {sysret, kTrapsByNewFlags};  // traps in the caller at once
    case ZYDIS_MNEMONIC_SYSENTER:
      return sysenter;
    case ZYDIS_MNEMONIC_SYSEXIT:
      return sysexit;
    default:
      return nullptr;
  }
}

}  // namespace deja
