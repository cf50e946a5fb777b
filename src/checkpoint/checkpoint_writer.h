// Writes checkpoints while a machine runs. Taking one copies the pages that were written since the one
// before; hashing, packing and writing are done by a thread of its own, which sees nothing but those copies.
// The guest cannot tell.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>

#include "checkpoint/checkpoint_format.h"
#include "eventlog/append_file.h"

namespace deja {

class CheckpointWriter {
 public:
  // `ram` as loaded at power-on; outlives the writer.
  static Result<std::unique_ptr<CheckpointWriter>> create(std::unique_ptr<AppendFile> file, u64 recording,
                                                          GuestRam& ram);
  ~CheckpointWriter();

  // Whether the thread keeps up. If not, the next one should be taken later: the copies wait in memory.
  bool ready() const;
  void wait_until_ready();
  // The machine is at rest at point.step, later than the one before. After trouble with the file (disk full…)
  // it does nothing.
  void take(CheckpointPoint point);
  // Waits until all is written. An error: what went wrong with the file; it ends with the last whole
  // checkpoint.
  Status finish();

  u64 taken() const { return taken_; }
  u64 bytes() const;  // written so far

 private:
  struct Job {
    CheckpointPoint point;
    std::vector<u32> frames;  // ascending
    std::vector<u8> pages;    // their contents
  };

  CheckpointWriter(std::unique_ptr<AppendFile> file, GuestRam& ram);
  void work();
  Status write(Job& job);
  u32 number_of(const u8* page, CheckpointRecord& record, std::string& payload);

  // --- the machine's thread
  GuestRam& ram_;
  WriteSet written_;
  u64 taken_ = 0;

  // --- shared
  mutable std::mutex mutex_;
  std::condition_variable changed_, written_out_;
  std::deque<std::unique_ptr<Job>> jobs_;
  std::vector<std::unique_ptr<Job>> spare_;  // their buffers are mapped already
  u64 waiting_bytes_ = 0;
  bool stop_ = false;
  Status status_;
  u64 bytes_ = 0;

  // --- the writer's thread
  std::unique_ptr<AppendFile> file_;
  struct KeyHash {
    std::size_t operator()(const PageKey& k) const { return k.low; }
  };
  std::unordered_map<PageKey, u32, KeyHash> numbers_;
  u32 next_number_ = kFirstStoredPage;
  std::vector<u32> image_;  // number of each frame's page
  u64 records_ = 0;
  std::thread thread_;
};

}  // namespace deja
