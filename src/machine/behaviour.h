// The version of what a guest can see of the machine, and what changed in it.
#pragma once

#include <string_view>

#include "base/types.h"

namespace deja {

// Raised by every change that a guest can notice; written to manifests.
inline constexpr u32 kMachineBehaviour = 10;

// Why a recording of version `recorded` cannot be replayed by this machine, as a clause that ends a sentence.
// The versions are listed in docs/determinism.md, section 7.
std::string_view why_behaviour_differs(u32 recorded);

}  // namespace deja
