// The file under an event log, as an interface so that tests can make the disk fail at any byte.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/types.h"

namespace deja {

class AppendFile {
 public:
  virtual ~AppendFile() = default;
  // Appends all bytes, or returns an error, after which any part of them may have been written. When this
  // returns success the bytes are the kernel's: they survive the death of this process.
  virtual Status append(std::string_view bytes) = 0;
  // Cuts the file back to `size` bytes.
  virtual Status truncate(u64 size) = 0;
  // Makes what was appended survive a crash of the host.
  virtual Status sync() = 0;
};

// Creates `path` (which must not exist) and holds an exclusive flock on it for as long as the object lives,
// by which others see that the recording is being written.
Result<std::unique_ptr<AppendFile>> create_append_file(const std::string& path);

}  // namespace deja
