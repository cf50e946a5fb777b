#include "semantics/fpu/fpu_helpers.h"

namespace deja {

void check_x87_available(const Vcpu& cpu) {
  if (cpu.state.cr0 & (cr0bit::EM | cr0bit::TS)) throw fault_nm();
}

void check_x87_exception(const Vcpu& cpu) {
  if (x87_exception_pending(cpu.state.fpu)) throw GuestFault{kMF};
}

void check_sse_available(const Vcpu& cpu) {
  if ((cpu.state.cr0 & cr0bit::EM) || !(cpu.state.cr4 & cr4bit::OSFXSR)) throw fault_ud();
  if (cpu.state.cr0 & cr0bit::TS) throw fault_nm();
}

void check_avx_available(const Vcpu& cpu) {
  constexpr u64 kSseAndAvx = 6;
  if (!cpu.state.protected_mode() || cpu.state.v8086() || !(cpu.state.cr4 & cr4bit::OSXSAVE) ||
      (cpu.state.xcr0 & kSseAndAvx) != kSseAndAvx)
    throw fault_ud();
  if (cpu.state.cr0 & cr0bit::TS) throw fault_nm();
}

void check_vector_available(const Vcpu& cpu, const Insn& insn) {
  if (insn.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX)
    check_avx_available(cpu);
  else
    check_sse_available(cpu);
}

Helper find_fpu_helper(const Insn& insn) {
  using Find = Helper (*)(const Insn&);
  constexpr Find kFiles[] = {find_x87_environment_helper, find_xsave_helper,
                             find_masked_move_helper,     find_gather_helper,
                             find_approximation_helper,   find_x87_transcendental_helper};
  for (const Find find : kFiles)
    if (const Helper helper = find(insn)) return helper;
  return nullptr;
}

}  // namespace deja
