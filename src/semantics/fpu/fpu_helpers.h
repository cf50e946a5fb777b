// What the files of x87/SSE/AVX helpers share.
#pragma once

#include "semantics/fpu/fpu_state.h"
#include "semantics/vcpu.h"

namespace deja {

// --- Availability checks, in the order in which the processor makes them (SDM vol. 3A 2.5, 9.2; vol.
// 1 13.5.3). x87 instructions: #NM under CR0.EM or CR0.TS.
void check_x87_available(const Vcpu& cpu);
// Waiting x87 instructions, and MMX: #MF for a pending unmasked exception. state.fpu must be current.
void check_x87_exception(const Vcpu& cpu);
// Legacy-encoded SSE: #UD under CR0.EM or without CR4.OSFXSR, #NM under CR0.TS.
void check_sse_available(const Vcpu& cpu);
// VEX-encoded: #UD outside protected mode, without CR4.OSXSAVE, or with XCR0 not enabling SSE and AVX; #NM.
void check_avx_available(const Vcpu& cpu);
// One of the two, by the instruction's encoding.
void check_vector_available(const Vcpu& cpu, const Insn& insn);

// state.fpu made current; commit() makes what was changed in it effective.
class FpuAccess {
 public:
  explicit FpuAccess(Vcpu& cpu) : cpu_(cpu) { cpu.fpu_to_memory(cpu); }
  FpuState* operator->() const { return &cpu_.state.fpu; }
  FpuState& operator*() const { return cpu_.state.fpu; }
  void commit() { cpu_.fpu_from_memory(cpu_); }

 private:
  Vcpu& cpu_;
};

// The helpers, by file; nullptr when the mnemonic is not the file's.
Helper find_x87_environment_helper(const Insn& insn);
Helper find_xsave_helper(const Insn& insn);
Helper find_masked_move_helper(const Insn& insn);
Helper find_gather_helper(const Insn& insn);
Helper find_approximation_helper(const Insn& insn);
Helper find_x87_transcendental_helper(const Insn& insn);

}  // namespace deja
