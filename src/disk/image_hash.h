// The SHA-256 of an image's file, by which recordings know the image. Large images take seconds, so the
// result is remembered for as long as the file system says that the file is the same (device, inode, ctime,
// size), and a recording starts before it is known.
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

// Looks into the cache alone; nullopt when the hash is not there.
std::optional<std::string> cached_image_sha256(const std::string& identity);

// 64 lower-case hexadecimal digits. A file that changes meanwhile is an error. The work is given
// up when `stop` says so.
Result<std::string> image_sha256(const HostFile& file, const std::function<bool()>& stop = {});
// Notes that the user has named this image, and tells whether that was noted: a recorder may end before it
// knows the hash, and its recording then relies on the note.
void note_named_image(const std::string& identity);
bool is_named_image(const std::string& identity);
// The folder in which hashes are remembered; empty when there is none.
std::filesystem::path image_hash_cache();

// Computes the hash on a thread that touches nothing but the file. With the sandbox it is a helper process
// that was started before, since the cache is out of this process's reach then.
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
