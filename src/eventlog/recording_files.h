// How a recorder writes files, as an interface so that tests can be the disk: full, failing, cut off at any
// moment.
#pragma once

#include <filesystem>
#include <memory>
#include <string_view>

#include "eventlog/append_file.h"

namespace deja {

class RecordingFiles {
 public:
  virtual ~RecordingFiles() = default;
  // As create_append_file().
  virtual Result<std::unique_ptr<AppendFile>> create(const std::filesystem::path& path) = 0;
  // As replace_file().
  virtual Status replace(const std::filesystem::path& path, std::string_view text) = 0;
  // What cannot be removed is of no use, and does no harm.
  virtual void remove(const std::filesystem::path& path) = 0;
};

// The host's.
RecordingFiles& host_files();

}  // namespace deja
