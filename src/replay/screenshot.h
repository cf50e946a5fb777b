// The picture on a machine's screen.
#pragma once

#include <filesystem>

#include "machine/machine.h"

namespace deja {

struct Picture {
  u32 width = 0, height = 0;
  std::vector<u8> rgb;  // 8 bits a colour, rows from the top, without padding
};

// An error when the machine has no screen, or it is off.
Result<Picture> take_picture(Machine& machine);

// As PNG; `out` must not exist.
Status write_png(const Picture& picture, const std::filesystem::path& out);

}  // namespace deja
