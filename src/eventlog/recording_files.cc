#include "eventlog/recording_files.h"

#include <system_error>

#include "eventlog/small_file.h"

namespace deja {
namespace {

class HostFiles final : public RecordingFiles {
 public:
  Result<std::unique_ptr<AppendFile>> create(const std::filesystem::path& path) override {
    return create_append_file(path.string());
  }
  Status replace(const std::filesystem::path& path, std::string_view text) override {
    return replace_file(path, text);
  }
  void remove(const std::filesystem::path& path) override {
    std::error_code ec;
    std::filesystem::remove(path, ec);
  }
};

}  // namespace

RecordingFiles& host_files() {
  static HostFiles files;
  return files;
}

}  // namespace deja
