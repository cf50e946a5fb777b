// On hosts whose undefined flags are not the canonical ones (docs/undefined-flags.md): which instructions can
// be carried over all the same, because nothing sees these flags, or with a few host instructions behind them
// that mend them.
#pragma once

#include <vector>

#include "decode/flag_groups.h"
#include "translate/form.h"

namespace deja {

// Whether Translator::emit_fixed_op knows the instruction.
bool can_fix_flags(const Insn& insn);

// The status flags that it mends, of instructions of `group`.
u64 fixed_flags(FlagGroup group);

// Groups that it needs to be right on the host.
inline constexpr u32 kGroupsForFixes =
    1u << static_cast<unsigned>(FlagGroup::logic) | 1u << static_cast<unsigned>(FlagGroup::bit_test);

// Whether only flags of it can differ between hosts, not the result.
bool result_is_same_everywhere(const Insn& insn);

// Carries instructions marked BlockInsn::soft over as they are, if every flag that may be wrong is
// overwritten before anybody can look: at a fault, or behind the block.
void plan_flags(std::vector<BlockInsn>& block);

}  // namespace deja
