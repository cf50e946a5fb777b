// A disk that fails when it is told to: RecordingFiles over a real folder, which afterwards holds what a
// recorder, or the crash of its host, would have left there.
#pragma once

#include <algorithm>
#include <array>
#include <condition_variable>
#include <filesystem>
#include <map>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "eventlog/recording_files.h"
#include "eventlog/temp_dir_for_test.h"

namespace deja {

// Operations are counted by kind of file, since each kind is written by one thread: what a fault strikes does
// not depend on how threads take turns.
enum class FileKind : u8 { log, checkpoints, manifest };
inline constexpr std::array kFileKinds{FileKind::log, FileKind::checkpoints, FileKind::manifest};

struct DiskFault {
  enum class Kind : u8 {
    no_room,     // `length` operations that need room fail
    io_error,    // `length` operations of any kind fail
    kill,        // of the recorder: nothing is done from then on
    power_loss,  // of the host: what was not synced may be gone as well, or be zeros
  };
  Kind kind = Kind::kill;
  FileKind file = FileKind::log;
  u64 at = 0;      // the operation that it strikes first, from 0
  u64 length = 1;  // operations
};

class FaultyFiles final : public RecordingFiles {
 public:
  FaultyFiles(std::vector<DiskFault> faults, u64 seed) : faults_(std::move(faults)), random_(seed) {}

  Result<std::unique_ptr<AppendFile>> create(const std::filesystem::path& path) override;
  Status replace(const std::filesystem::path& path, std::string_view text) override;
  void remove(const std::filesystem::path& path) override;

  // Waits for the thread of a flight recorder's checkpoints: until it has synced the file that it copies to,
  // or given it up.
  void wait_for_copies();
  // The host crashes now, if nothing has died before.
  void crash();
  // Is the recorder, or its host, dead?
  bool dead() const { return dead_; }
  u64 operations(FileKind kind) const { return counts_[static_cast<std::size_t>(kind)]; }
  // What must still be in the file: of a host that has crashed, what was synced.
  u64 promised_bytes(const std::filesystem::path& path) const;
  // Has any fault come to pass?
  bool struck() const { return dead_ || failures_ > 0; }

 private:
  class File;
  struct Content {
    std::unique_ptr<AppendFile> real;  // null when its object or the recorder is gone
    u64 size = 0, synced = 0;          // bytes
  };
  enum class Strike : u8 { none, fails, dies };

  static FileKind kind_of(const std::filesystem::path& path);
  Strike strike(FileKind kind, bool needs_room);
  void die();
  void lose_unsynced(const std::filesystem::path& path, const Content& content);
  std::size_t part_of(std::size_t size) { return size ? random_() % (size + 1) : 0; }
  Error error(const std::filesystem::path& path) const {
    return make_error("{}: {}", path.string(), dead_ ? "the recorder is dead" : "the disk refuses");
  }

  const std::vector<DiskFault> faults_;
  std::mt19937_64 random_;
  mutable std::mutex mutex_;
  std::condition_variable settled_;  // a file was synced or closed
  std::array<u64, kFileKinds.size()> counts_{};
  std::map<std::filesystem::path, Content> files_;
  // Names that were removed or made since the folder was synced, as replace() does, in order.
  std::vector<std::pair<std::filesystem::path, std::optional<std::string>>> unsynced_names_;
  DiskFault::Kind death_ = DiskFault::Kind::kill;
  bool dead_ = false;
  u64 failures_ = 0;
};

class FaultyFiles::File final : public AppendFile {
 public:
  File(FaultyFiles& disk, std::filesystem::path path) : disk_(disk), path_(std::move(path)) {}
  ~File() override {
    const std::lock_guard lock(disk_.mutex_);
    if (auto found = disk_.files_.find(path_); found != disk_.files_.end()) found->second.real.reset();
    disk_.settled_.notify_all();
  }
  Status append(std::string_view bytes) override {
    const std::lock_guard lock(disk_.mutex_);
    const Strike strike = disk_.strike(kind_of(path_), true);
    if (disk_.dead_ && strike == Strike::none) return disk_.error(path_);
    Content& content = disk_.files_[path_];
    if (strike == Strike::none) {
      DEJA_TRY(content.real->append(bytes));
      content.size += bytes.size();
      return {};
    }
    DEJA_TRY(content.real->append(bytes.substr(0, disk_.part_of(bytes.size()))));
    if (strike == Strike::dies) disk_.die();
    return disk_.error(path_);
  }
  Status truncate(u64 size) override {
    const std::lock_guard lock(disk_.mutex_);
    const Strike strike = disk_.strike(kind_of(path_), false);
    if (strike == Strike::dies) disk_.die();
    if (disk_.dead_ || strike != Strike::none) return disk_.error(path_);
    Content& content = disk_.files_[path_];
    content.size = size;
    content.synced = std::min(content.synced, size);
    return content.real->truncate(size);
  }
  Status sync() override {
    const std::lock_guard lock(disk_.mutex_);
    const Strike strike = disk_.strike(kind_of(path_), false);
    if (strike == Strike::dies) disk_.die();
    if (disk_.dead_ || strike != Strike::none) return disk_.error(path_);
    Content& content = disk_.files_[path_];
    content.synced = content.size;
    disk_.settled_.notify_all();
    return {};
  }

 private:
  FaultyFiles& disk_;
  const std::filesystem::path path_;
};

inline FileKind FaultyFiles::kind_of(const std::filesystem::path& path) {
  const std::string name = path.filename().string();
  return name.starts_with("events")  ? FileKind::log
         : name.starts_with("check") ? FileKind::checkpoints
                                     : FileKind::manifest;
}

inline FaultyFiles::Strike FaultyFiles::strike(FileKind kind, bool needs_room) {
  if (dead_) return Strike::none;
  const u64 number = counts_[static_cast<std::size_t>(kind)]++;
  for (const DiskFault& fault : faults_) {
    if (fault.file != kind || number < fault.at) continue;
    if (fault.kind >= DiskFault::Kind::kill) {
      if (number > fault.at) continue;
      death_ = fault.kind;
      return Strike::dies;
    }
    if (number >= fault.at + fault.length || (fault.kind == DiskFault::Kind::no_room && !needs_room))
      continue;
    ++failures_;
    return Strike::fails;
  }
  return Strike::none;
}

inline Result<std::unique_ptr<AppendFile>> FaultyFiles::create(const std::filesystem::path& path) {
  const std::lock_guard lock(mutex_);
  const Strike struck = strike(kind_of(path), true);
  if (struck == Strike::dies) die();
  if (dead_ || struck != Strike::none) return error(path);
  DEJA_ASSIGN(auto real, create_append_file(path.string()));
  files_[path] = {std::move(real), 0, 0};
  unsynced_names_.emplace_back(path, std::nullopt);
  return std::unique_ptr<AppendFile>(std::make_unique<File>(*this, path));
}

inline Status FaultyFiles::replace(const std::filesystem::path& path, std::string_view text) {
  const std::lock_guard lock(mutex_);
  const Strike struck = strike(FileKind::manifest, true);
  if (struck == Strike::none && dead_) return error(path);
  const bool done = struck == Strike::none || (struck == Strike::dies && random_() % 2);
  if (done) {
    // As replace_file() does it, but for syncing, which is slow, and which this class is.
    spew(path.string() + ".new", std::string(text));
    std::filesystem::rename(path.string() + ".new", path);
    unsynced_names_.clear();
  } else if (struck == Strike::dies) {
    spew(path.string() + ".new", std::string(text.substr(0, part_of(text.size()))));
  }
  if (struck == Strike::dies) die();
  return struck == Strike::none ? Status() : error(path);
}

inline void FaultyFiles::remove(const std::filesystem::path& path) {
  const std::lock_guard lock(mutex_);
  if (dead_ || !std::filesystem::exists(path)) return;
  unsynced_names_.emplace_back(path, slurp(path));
  std::filesystem::remove(path);
}

inline void FaultyFiles::wait_for_copies() {
  std::unique_lock lock(mutex_);
  settled_.wait(lock, [&] {
    return std::none_of(files_.begin(), files_.end(), [](const auto& entry) {
      const auto& [path, content] = entry;
      return path.filename().string().starts_with("checkpoints-") && content.real && content.synced == 0;
    });
  });
}

inline u64 FaultyFiles::promised_bytes(const std::filesystem::path& path) const {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(path);
  if (found == files_.end()) return 0;
  return dead_ && death_ == DiskFault::Kind::power_loss ? found->second.synced : found->second.size;
}

inline void FaultyFiles::crash() {
  const std::lock_guard lock(mutex_);
  if (dead_) return;
  death_ = DiskFault::Kind::power_loss;
  die();
}

// Closes all files, which frees their locks.
inline void FaultyFiles::die() {
  dead_ = true;
  for (auto& [path, content] : files_) content.real.reset();
  settled_.notify_all();
  if (death_ != DiskFault::Kind::power_loss) return;
  for (const auto& [path, content] : files_)
    if (std::filesystem::exists(path)) lose_unsynced(path, content);
  // Changes of names that come later than some moment are gone; file systems keep them in order.
  for (std::size_t kept = part_of(unsynced_names_.size()); unsynced_names_.size() > kept;) {
    const auto& [path, content] = unsynced_names_.back();
    if (content)
      spew(path, *content);
    else
      std::filesystem::remove(path);
    unsynced_names_.pop_back();
  }
}

// The tail is gone, or zeros, or has a hole of zeros.
inline void FaultyFiles::lose_unsynced(const std::filesystem::path& path, const Content& content) {
  std::string bytes = slurp(path);
  const std::size_t synced = std::min<std::size_t>(content.synced, bytes.size());
  const std::size_t from = synced + part_of(bytes.size() - synced);
  const std::size_t to = from + part_of(bytes.size() - from);
  switch (random_() % 3) {
    case 0:
      bytes.resize(from);
      break;
    case 1:
      std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(from), bytes.end(), '\0');
      break;
    default:
      std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(from),
                bytes.begin() + static_cast<std::ptrdiff_t>(to), '\0');
  }
  spew(path, bytes);
}

}  // namespace deja
