// The picture on a machine's screen.
#pragma once

#include <filesystem>
#include <memory>

#include "machine/machine.h"
#include "sandbox/helper_process.h"

namespace deja {

struct Picture {
  u32 width = 0, height = 0;
  std::vector<u8> rgb;  // 8 bits a colour, rows from the top, without padding
};

// An error when the machine has no screen, or it is off.
Result<Picture> take_picture(Machine& machine);

// As PNG; `out` must not exist.
Status write_png(const Picture& picture, const std::filesystem::path& out);

// Writes them to wherever the user says while the machine runs: in the sandbox a process does that which
// makes new PNG files, and nothing else.
class PictureWriter {
 public:
  // Before the sandbox is entered.
  static Result<PictureWriter> create();
  Status write(const Picture& picture, const std::string& file);

 private:
  std::unique_ptr<HelperProcess> process_;  // absent: no sandbox
};

}  // namespace deja
