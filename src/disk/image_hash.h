// By what a disk image is known: the SHA-256 of its file. Large images take seconds, so the result is
// remembered for as long as the file system says that the file is the same (device, inode, ctime, size), and
// a recording starts before it is known.
#pragma once

#include <atomic>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "base/result.h"
#include "disk/host_file.h"
#include "sandbox/helper_process.h"

namespace deja {

// From the cache alone; nullopt when it is not there.
std::optional<std::string> cached_image_sha256(const std::string& identity);

// 64 lower-case hexadecimal digits. An error also when the file changes meanwhile. It is given up when
// `stop` says so.
Result<std::string> image_sha256(const HostFile& file, const std::function<bool()>& stop = {});
// Notes that the user has named this image, which is for recordings whose recorders do not live to know its
// hash; and has it been noted?
void note_named_image(const std::string& identity);
bool is_named_image(const std::string& identity);
// Where they are remembered; empty: nowhere.
std::filesystem::path image_hash_cache();

// The same on a thread of its own, which touches nothing but the file; with the sandbox, in a process of its
// own, made before it is entered, since the cache is out of this one's reach then.
class BackgroundHash {
 public:
  explicit BackgroundHash(std::string path);  // does nothing yet
  ~BackgroundHash();                          // gives up if not done
  BackgroundHash(const BackgroundHash&) = delete;

  void begin();  // once
  bool done() const;
  // Waits for the end; once.
  Result<std::string> take();

 private:
  std::string path_;
  std::atomic<bool> stop_ = false, done_ = false;
  std::optional<Result<std::string>> result_;
  std::thread thread_;
  std::unique_ptr<HelperProcess> process_;
};

}  // namespace deja
