// Writes checkpoints while a machine runs. Taking one copies the pages that were written since the one
// before; hashing, packing and writing are done by a thread of its own, which sees nothing but those copies.
// The guest cannot tell.
#pragma once

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>

#include "checkpoint/checkpoint_reader.h"
#include "eventlog/append_file.h"

namespace deja {

class CheckpointWriter {
 public:
  // `ram` as loaded at power-on, unless take_base() comes first; outlives the writer.
  static Result<std::unique_ptr<CheckpointWriter>> create(std::unique_ptr<AppendFile> file, u64 recording,
                                                          GuestRam& ram);
  // Where to go on: behind checkpoint number `checkpoint` of `reader`, up to which it is unbroken; or,
  // without a reader, behind power-on.
  struct Continuation {
    const CheckpointReader* reader = nullptr;
    std::size_t checkpoint = 0;
    std::vector<u32> frames;                   // written since then
    std::vector<DiskOverlay::Snapshot> disks;  // as they were then
  };
  // Begins with a copy of what leads up to there.
  static Result<std::unique_ptr<CheckpointWriter>> resume(std::unique_ptr<AppendFile> file, u64 recording,
                                                          GuestRam& ram, const Continuation& from);
  ~CheckpointWriter();

  // The first checkpoint, instead of take(): with all of RAM and of what was written to disks, so that it
  // stands by itself, and written before this returns.
  Status take_base(CheckpointPoint point);

  // For a recording whose beginning moves on. From then on checkpoints go to `file`; it becomes a copy of
  // what `path`, the file in use until then, holds from the checkpoint at `base` on, which must have been
  // taken. The thread does that; checkpoints wait meanwhile. The first one taken was a base.
  struct Move {
    std::unique_ptr<AppendFile> file;
    std::filesystem::path path;
    MachineShape shape;
    Step base = 0;
    u64 opening_events = 0;  // as in RebaseRequest
  };
  void begin_move(Move move);
  // How that went, once; absent: it is not done. After an error all is as it was.
  std::optional<Status> move_outcome();

  // Whether the thread keeps up. If not, the next one should be taken later: the copies wait in memory.
  bool ready() const;
  void wait_until_ready();
  // The machine is at rest at point.step, later than the one before. After trouble with the file (disk full…)
  // it does nothing.
  void take(CheckpointPoint point);
  // Waits until all is written. An error: what went wrong with the file; it ends with the last whole
  // checkpoint. A move that is not done is given up.
  Status finish();
  // What went wrong so far.
  Status status() const;

  u64 taken() const { return taken_; }
  u64 bytes() const;  // written so far

 private:
  // What was written to, and the contents: of frames, then of each disk's blocks.
  struct Job {
    CheckpointPoint point;
    std::vector<u32> frames;               // ascending
    std::vector<std::vector<u32>> blocks;  // by drive; ascending
    std::vector<u8> pages;                 // of the frames, then of the blocks that are not zeros
    std::vector<bool> zero_blocks;         // one for each block, in the order of `blocks`
  };
  using PageImage = std::map<u32, u32>;  // the number of each page's content

  CheckpointWriter(std::unique_ptr<AppendFile> file, GuestRam& ram);
  static Result<std::unique_ptr<CheckpointWriter>> open(std::unique_ptr<AppendFile> file, u64 recording,
                                                        GuestRam& ram);
  void start();
  Status follow(Move& move);
  Status copy_from(const Continuation& from);
  // Takes the disks out of the point; the blocks written since the last time, by drive.
  std::vector<std::vector<DiskOverlay::NumberedBlock>> take_disks(Job& job);
  void work();
  // `page`: what the frame with that index in job.frames holds; behind the frames come the disks' blocks.
  Status write(Job& job, const std::function<Result<const u8*>(std::size_t)>& page);
  u32 number_of(const u8* page, CheckpointRecord& record, std::string& payload);

  // --- the machine's thread
  GuestRam& ram_;
  WriteSet written_;
  std::vector<DiskOverlay::Snapshot> disks_;  // at the last checkpoint
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
  std::optional<Move> move_;
  std::optional<Status> move_outcome_;

  // --- the writer's thread
  std::unique_ptr<AppendFile> file_;
  u64 recording_ = 0;
  u64 events_before_ = 0;  // that points count and the log in use does not have; may wrap around
  struct KeyHash {
    std::size_t operator()(const PageKey& k) const { return k.low; }
  };
  std::unordered_map<PageKey, u32, KeyHash> numbers_;
  u32 next_number_ = kFirstStoredPage;
  std::vector<u32> image_;         // number of each frame's page
  std::vector<PageImage> blocks_;  // and of each written block's, by drive
  u64 records_ = 0;
  std::thread thread_;
};

}  // namespace deja
