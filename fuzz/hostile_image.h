// Reads a disk image that may be anything.
#pragma once

#include <string>

#include "fuzz/target.h"

namespace deja::fuzz {

// Opens a file with this content, and if that goes well reads here and there.
void read_image(Random& random, const std::string& bytes, const std::string& format);

}  // namespace deja::fuzz
