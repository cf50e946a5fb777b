// A block for people to read: guest code, plan and host code side by side.
#pragma once

#include <string>
#include <vector>

#include "translate/block.h"
#include "translate/form.h"

namespace deja {

// `write`: the code cache as written; it is executed at `exec`. `pc`: linear address of the first
// instruction.
std::string list_block(const Block& block, const std::vector<BlockInsn>& insns, const u8* write, u64 exec,
                       u64 pc);

}  // namespace deja
