// Which way each instruction goes: carried over to the host, written anew by the translator, or done in C++.
// A whitelist: what is not known here goes to C++, and what C++ does not know raises #UD.
#pragma once

#include "decode/insn.h"
#include "translate/mode.h"

namespace deja {

enum class Way : u8 {
  carry,    // the host executes it, with registers renamed and the memory operand replaced
  nothing,  // no effect in this machine: NOP, fences, prefetches
  lea,
  moffs,  // MOV to/from an absolute offset
  push,
  pop,
  leave,
  jump,  // near JMP, direct or indirect
  jcc,
  call,
  ret,
  loop,           // LOOP, LOOPE, LOOPNE, JCXZ and kin
  helper,         // C++, and the block ends
  helper_inline,  // C++, and the block goes on
};

Way classify(const Insn& insn);

// The exception that the instruction raises before anything else because of the FPU bits of `mode`
// (kNoVector: none).
u8 fpu_gate(const Insn& insn, BlockMode mode);

// Waiting x87 instructions: a pending unmasked exception raises #MF before anything else.
bool waits_for_fpu(const Insn& insn);
// Has an MMX register: the x87 unit goes into MMX state (SDM vol. 1 9.5), and a pending exception raises #MF.
bool uses_mmx(const Insn& insn);

// Whether the host's XMM or YMM registers must be the guest's for this instruction, which is carried over.
bool uses_vectors(const Insn& insn);

// Multiple that the address of the memory operand must have, or 0 (SDM vol. 1 table 14-22: SSE 16-byte
// operands).
u8 required_alignment(const Insn& insn);

}  // namespace deja
