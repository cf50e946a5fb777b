// A place in a recording, as users write it.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/types.h"

namespace deja {

// The steps that a recording has.
struct StepRange {
  Step first = 0, last = 0;
};

// A step number (with or without thousands separators), "N%" of the recording, "start" or "end". What lies
// outside of the recording is refused.
Result<Step> parse_position(std::string_view text, StepRange steps);
// An error that says where the recording begins or ends, unless it has that step.
Status check_position(Step step, StepRange steps);

// 3,214,567,890
std::string format_count(u64 n);

}  // namespace deja
