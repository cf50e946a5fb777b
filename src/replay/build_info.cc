#include "replay/build_info.h"

namespace deja {

std::string build_version() { return DEJA_VERSION; }

}  // namespace deja
