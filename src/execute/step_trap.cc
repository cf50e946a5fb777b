#include "execute/step_trap.h"

namespace deja {
namespace {

constexpr u64 kDr6Bs = 1 << 14;
constexpr u64 kDebugCtlBtf = 1 << 1;

// A taken branch even where it leads to the instruction that follows it.
bool always_branches(ZydisMnemonic m) {
  return m == ZYDIS_MNEMONIC_JMP || m == ZYDIS_MNEMONIC_CALL || m == ZYDIS_MNEMONIC_RET ||
         m == ZYDIS_MNEMONIC_IRET || m == ZYDIS_MNEMONIC_IRETD || m == ZYDIS_MNEMONIC_IRETQ;
}

}  // namespace

bool StepTrap::wants_branches(const CpuState& s) { return s.msr.debugctl & kDebugCtlBtf; }

void StepTrap::only_branches(const CpuState& s, const Insn& insn) {
  if (always_branches(insn.mnemonic)) return;
  falls_through_ = true;
  self_ = s.rip;
  next_ = s.rip + insn.length;
  if (insn.code_size != CodeSize::bits64) next_ &= 0xffffffff;
}

void StepTrap::note_trap(CpuState& s) const {
  // The trap after MOV SS is lost, and does not wait as one of a data breakpoint does (SDM vol. 3A 6.8.3).
  if (s.mov_ss_shadow) return;
  if (falls_through_ && (s.rip == self_ || s.rip == next_)) return;
  s.pending_dbg |= kDr6Bs;
}

}  // namespace deja
