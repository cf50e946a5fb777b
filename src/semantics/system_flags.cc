// PUSHF, POPF, CLI, STI, CLAC, STAC, CLD, STD (SDM vol. 2; the CPL and IOPL rules in vol. 1 19.5).
#include "semantics/pure_ops.h"
#include "semantics/system.h"

namespace deja {
namespace {

void pushf(Vcpu& cpu, const Insn& insn) {
  const CpuState& s = cpu.state;
  if (s.v8086() && iopl(s) < 3) throw fault_gp();
  push_value(cpu, pushf_image(s), insn.operand_size);
}

void pop_flags(Vcpu& cpu, const Insn& insn) {
  CpuState& s = cpu.state;
  if (s.v8086() && iopl(s) < 3) throw fault_gp();
  const u64 value = pop_value(cpu, insn.operand_size);
  popf(s, value, insn.operand_size);
}

void require_iopl(const CpuState& s) {
  if (s.cpl() > iopl(s)) throw fault_gp();
}

void cli(Vcpu& cpu, const Insn&) {
  require_iopl(cpu.state);
  cpu.state.rflags &= ~flag::IF;
}

void sti(Vcpu& cpu, const Insn&) {
  CpuState& s = cpu.state;
  require_iopl(s);
  if (!(s.rflags & flag::IF)) s.sti_shadow = true;
  s.rflags |= flag::IF;
}

void clac(Vcpu& cpu, const Insn&) {
  if (cpu.state.cpl() != 0) throw fault_ud();
  cpu.state.rflags &= ~flag::AC;
}

void stac(Vcpu& cpu, const Insn&) {
  if (cpu.state.cpl() != 0) throw fault_ud();
  cpu.state.rflags |= flag::AC;
}

void cld(Vcpu& cpu, const Insn&) { cpu.state.rflags &= ~flag::DF; }
void std_(Vcpu& cpu, const Insn&) { cpu.state.rflags |= flag::DF; }

}  // namespace

Helper find_flags_helper(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
      return pushf;
    case ZYDIS_MNEMONIC_POPF:
    case ZYDIS_MNEMONIC_POPFD:
    case ZYDIS_MNEMONIC_POPFQ:
      return pop_flags;
    case ZYDIS_MNEMONIC_CLI:
      return cli;
    case ZYDIS_MNEMONIC_STI:
      return sti;
    case ZYDIS_MNEMONIC_CLAC:
      return clac;
    case ZYDIS_MNEMONIC_STAC:
      return stac;
    case ZYDIS_MNEMONIC_CLD:
      return cld;
    case ZYDIS_MNEMONIC_STD:
      return std_;
    default:
      return nullptr;
  }
}

}  // namespace deja
