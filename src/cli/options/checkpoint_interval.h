// `--checkpoint-every` of `record`, `index` and `trim`.
#pragma once

#include <string_view>

#include "base/result.h"
#include "base/types.h"

namespace deja {

// "50M", "1G", "200000", "1,000,000"; "off" is 0. At least 100,000 steps.
Result<Step> parse_checkpoint_interval(std::string_view option, std::string_view text);

}  // namespace deja
