// A place in a recording, as users write it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/types.h"

namespace deja {

// The steps of a recording that can be gone to.
struct StepRange {
  Step first = 0, last = 0;
  // Only of a damaged recording: why what lies behind `last` is out of reach, and the last step of the whole
  // one, where that is known. What users count from the end means the same moments as in the whole recording.
  std::optional<Error> damage = {};
  std::optional<Step> end = {};

  // The last step of the whole recording. An error: damage hides it.
  Result<Step> whole_end() const;
  // What to add to a message about something that was not found; empty when the recording is sound.
  std::string damage_note() const;
};

// A step number (with or without thousands separators), "N%" of the recording, "start" or "end". What lies
// outside of the recording, or in the damaged part of it, is refused.
Result<Step> parse_position(std::string_view text, const StepRange& steps);
// An error that says where the recording begins or ends, unless it has that step.
Status check_position(Step step, const StepRange& steps);

// 3,214,567,890
std::string format_count(u64 n);

}  // namespace deja
