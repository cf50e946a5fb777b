// What this host computes for instructions that leave status flags undefined (docs/undefined-flags.md),
// against the canonical results of semantics/flag_ops.h.
#pragma once

#include <span>

#include "decode/flag_groups.h"
#include "semantics/flag_ops.h"

namespace deja {

// One instruction as the host executes it; the self-check and the tests compare compute_flag_op with it.
struct HostFlagOp {
  const char* text;
  ZydisMnemonic mnemonic;
  unsigned size;
  int immediate;  // the count, or -1
  FlagOpResult (*run)(u64 a, u64 b, u64 c, u64 status);
};
std::span<const HostFlagOp> host_flag_ops();
// Whether host and compute_flag_op agree in result and flags; the operands of divisions are cut to what
// cannot fault.
bool host_agrees(const HostFlagOp& op, u64 a, u64 b, u64 c, u64 status);

// Sets of groups (1 << FlagGroup).
struct HostFlagDifferences {
  u32 groups = 0;     // for which this host computes other flags than the canonical ones
  u32 not_fixed = 0;  // of these, the ones that translate/flag_fixes.h does not mend
};
// Tries every instruction on a few operands: takes less than a millisecond.
HostFlagDifferences host_flag_differences();

}  // namespace deja
