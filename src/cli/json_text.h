// JSON for scripts and for terminals: all that is not ASCII is escaped, and so are control characters; what
// is not UTF-8 becomes U+FFFD.
#pragma once

#include <nlohmann/json.hpp>

#include "base/printable.h"

namespace deja {

inline Lines json_text(const nlohmann::ordered_json& json) {
  return {json.dump(2, ' ', true, nlohmann::json::error_handler_t::replace)};
}

}  // namespace deja
