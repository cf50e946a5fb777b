// C++ semantics of near branches and stack instructions, for the modes whose segments are not flat (real
// mode, 16-bit code, segments with a base) where the translator does not emit them inline; and of bit tests
// whose register index reaches beyond the operand, flag instructions, PAUSE.
#pragma once

#include "execute/vcpu.h"

namespace deja {

InsnHelper find_near_helper(const Insn& insn);

}  // namespace deja
