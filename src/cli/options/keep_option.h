// `--keep` of `record`.
#pragma once

#include <string_view>

#include "base/result.h"
#include "base/types.h"

namespace deja {

// "30s", "10m" or "10min", "2h", "1.5h"; a plain number counts seconds. Nanoseconds, from a second to a year.
Result<u64> parse_keep(std::string_view text);

}  // namespace deja
