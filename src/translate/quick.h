// Instructions of operating-system code that have a quick way through C++: one that leaves the vector
// registers in the host's, knows only the common case, and declines the others without having changed
// anything (execute/quick_ops.h). Everything it declines goes the way of every other instruction done in C++.
#pragma once

#include "decode/insn.h"
#include "translate/mode.h"

namespace deja {

enum class QuickOp : u8 {
  none,
  cli,
  sti,
  pushf,
  popf,
  stac,
  clac,
  cld,
  std,
  swapgs,
  read_base,   // RDFSBASE, RDGSBASE
  write_base,  // WRFSBASE, WRGSBASE
  rdtsc,
  rdtscp,
  pause,
  read_cr,   // MOV r64, CR0/2/3/4
  read_seg,  // MOV r32/r64, segment register
  syscall,
  sysret,
  iret,
  bit,  // BT, BTS, BTR, BTC of a bit string in memory
  cmpxchg16b,
  stos,
  movs,
};

// An SMP guest that executes this many PAUSEs in one quantum is spinning: its quantum ends.
inline constexpr u32 kPausesPerQuantum = 16;

// QuickOp::none outside 64-bit mode, in code that a debugger observes, and for what has no quick way.
QuickOp quick_op(const Insn& insn, BlockMode mode);

// Whether execution can go on right behind the instruction, in the same block; else it ends the block.
inline bool quick_goes_on(QuickOp op) {
  switch (op) {
    case QuickOp::stac:
    case QuickOp::clac:
    case QuickOp::syscall:
    case QuickOp::sysret:
    case QuickOp::iret:
      return false;
    default:
      return true;
  }
}

}  // namespace deja
