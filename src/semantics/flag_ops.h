// Instructions that leave status flags undefined, in C++, with the flags that current Intel cores compute
// (docs/undefined-flags.md has the table). Where the host computes the same, the translator carries these
// instructions over; elsewhere they come here, so that a recording replays on any maker's CPU.
#pragma once

#include "semantics/vcpu.h"

namespace deja {

struct FlagOpResult {
  u64 value = 0;       // of the destination; for MUL and kin the low half
  u64 high = 0;        // MUL, one-operand IMUL: the high half; DIV, IDIV: the remainder
  u64 status = 0;      // all six status flags
  bool writes = true;  // the destination changes (BT, TEST, BSF of zero: it does not)
};

// `a`: the destination's old value (MUL: the accumulator), `b`: the source, count or bit index, `c`: for SHLD
// and SHRD the register shifted in, for DIV and IDIV the high half of the dividend, otherwise
// unused. `size` in bytes. `status`: the flags before. `immediate`: a register is rotated by an immediate.
// Values are taken modulo 2^(8*size). DIV and IDIV throw #DE.
FlagOpResult compute_flag_op(ZydisMnemonic mnemonic, unsigned size, u64 a, u64 b, u64 c, u64 status,
                             bool immediate = false);

// nullptr when the mnemonic leaves no flag undefined or is always done elsewhere.
Helper find_flag_helper(const Insn& insn);

}  // namespace deja
