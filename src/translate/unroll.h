// Between the first stage and the second: a small loop that is one block becomes a block of several turns, so
// that its head and the lookups of its groups (plan.h) serve all of them.
#pragma once

#include <vector>

#include "translate/form.h"

namespace deja {

// Whether the block ends in a conditional jump to its own start, and two turns of it are few enough
// instructions.
bool is_small_loop(const std::vector<BlockInsn>& block, unsigned max_insns);

// Repeats the turn of such a loop. The jump of each turn but the last leaves the block when it is not taken
// (BlockInsn::goes_round).
void unroll_loop(std::vector<BlockInsn>* loop, unsigned max_insns);

}  // namespace deja
