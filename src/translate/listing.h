// A block for people to read: guest code, plan and host code side by side.
#pragma once

#include <string>

#include "translate/translator.h"

namespace deja {

// The block that `translator` made last. `write`: the code cache as written; it is executed at `exec`. `pc`:
// linear address of the first instruction.
std::string list_block(const CodeStore& store, const Block& block, const Translator& translator,
                       const u8* write, u64 exec, u64 pc);

}  // namespace deja
