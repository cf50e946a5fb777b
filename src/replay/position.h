// A place in a recording, as users write it.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/types.h"

namespace deja {

// A step number (with or without thousands separators), "N%" of the recording, "start" or "end". `last` is
// the last step of the recording; what lies behind it is refused.
Result<Step> parse_position(std::string_view text, Step last);

// 3,214,567,890
std::string format_count(u64 n);

}  // namespace deja
