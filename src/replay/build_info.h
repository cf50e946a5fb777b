// Which build of the program this is.
#pragma once

#include <string>

namespace deja {

// "0.2.0", as in manifests and `deja version`.
std::string build_version();

}  // namespace deja
