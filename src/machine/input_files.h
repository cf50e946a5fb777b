// Files given on the command line, read whole and named by their content.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace deja {

struct LoadedFile {
  std::string path;  // as the user wrote it
  std::vector<u8> bytes;
  std::string sha256;  // 64 lower-case hexadecimal digits
};

// Reads `path`, which may be a pipe. `what` names the file's role in messages ("kernel", "initrd"); a file of
// more than `limit` bytes is refused.
Result<LoadedFile> read_input_file(std::string_view what, const std::string& path, u64 limit);

}  // namespace deja
