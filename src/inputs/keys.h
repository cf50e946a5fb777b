// Names of keys, as QEMU's monitor has them, to what a keyboard sends for them (scan code set 2).
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace deja {

// "ctrl-alt-f2", "shift-a", "ret": the keys pressed in order and released in the opposite one.
Result<std::string> scan_codes(std::string_view combination);

}  // namespace deja
