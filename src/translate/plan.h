// Second stage: which accesses of a block need no check of their own.
//
// Accesses off the same register, or off a register that is that one plus a constant, mostly fall into one
// page. The first of such a group looks the whole span up in the TLB, and the others use the addend that it
// found. That is right because a block is left as soon as any TLB entry was dropped, and because the lookup
// fills nothing: a group whose span misses is run again, from that instruction on, by a block without groups
// (BlockMode::kPlain).
#pragma once

#include <vector>

#include "translate/form.h"

namespace deja {

inline constexpr unsigned kMaxGroups = 8;  // ExecContext::group_addend

// Fills in BlockInsn::access. Only for 64-bit code whose accesses are inline.
void plan_groups(std::vector<BlockInsn>& block);

}  // namespace deja
