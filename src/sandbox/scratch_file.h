// Room on the host's disk for data that memory cannot hold: a file without a name, gone with the process. It
// is opened before the sandbox is entered.
#pragma once

#include <span>
#include <string>

#include "base/result.h"
#include "base/types.h"

namespace deja {

class ScratchFile {
 public:
  static Result<ScratchFile> create(const std::string& dir);
  // The folder of such files: $TMPDIR, else /var/tmp, which is meant for files too large for /tmp.
  static std::string usual_dir();
  ScratchFile(ScratchFile&& o) noexcept;
  ScratchFile& operator=(ScratchFile&&) = delete;
  ~ScratchFile();

  // A write that finds no room leaves the room of earlier ones as it is.
  Status write(u64 offset, std::span<const u8> data);
  Status read(u64 offset, std::span<u8> out) const;
  const std::string& dir() const { return dir_; }

 private:
  ScratchFile(std::string dir, int fd) : dir_(std::move(dir)), fd_(fd) {}
  std::string dir_;
  int fd_;
};

}  // namespace deja
