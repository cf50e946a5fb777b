// Reads the checkpoints of a recording: which there are, what RAM was at each, and the pages. Damage costs
// the checkpoints that need what is damaged, never the recording.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint_format.h"

namespace deja {

// The number of each frame's page.
using RamImage = std::vector<u32>;

class CheckpointReader {
 public:
  // None, when there is no file.
  static CheckpointReader open(const std::filesystem::path& file, u64 recording, MachineShape shape);
  // The same for a descriptor that is open, which it takes over; `file` is for messages.
  static CheckpointReader adopt(const std::filesystem::path& file, int fd, u64 recording, MachineShape shape);
  CheckpointReader() = default;
  CheckpointReader(CheckpointReader&&) noexcept;
  CheckpointReader& operator=(CheckpointReader&&) noexcept;
  ~CheckpointReader();

  std::size_t size() const { return checkpoints_.size(); }
  // In order of steps.
  const CheckpointPoint& point(std::size_t i) const { return checkpoints_[i].record.point; }
  // All that stands in the file of it, but for the list of its pages, which is in batches().
  const CheckpointRecord& record(std::size_t i) const { return checkpoints_[i].record; }
  // The last one at or before `step`, plus one; 0: none.
  std::size_t count_up_to(Step step) const;
  // What is wrong with the file, for people; empty: nothing.
  const std::string& problem() const { return problem_; }
  u64 file_bytes() const { return file_bytes_; }

  RamImage image(std::size_t i) const;
  // The blocks of a disk that were written at any time before, by block.
  std::vector<FramePage> disk(std::size_t i, unsigned drive) const;
  // Whether `frame` may have been written between the checkpoint before (or power-on) and this one. All
  // writers count, devices and page walks too.
  bool may_have_written(std::size_t i, u32 frame) const;

  // Reads stored pages: hands each of `numbers` (ascending, none twice) with its content to `use`. An error:
  // a page is damaged or missing; some may have been handed over by then.
  Status read_pages(std::span<const u32> numbers, const std::function<void(u32, const u8*)>& use) const;

  // The same for one page at a time, near each other in the file if possible: `page` gets its content.
  Status read_page(u32 number, u8* page) const;
  // Whether `number` names a page of a sound record; then its content may still turn out to be damaged.
  bool has_page(u32 number) const;
  // The content of a page came into being before checkpoint `checkpoint`, at which `frame` had it.
  struct Origin {
    std::size_t checkpoint = 0;
    u32 frame = 0;
    PageKey key;
  };
  // Nothing: it is a disk's, or the checkpoint is not sound.
  std::optional<Origin> origin(u32 number) const;

  // Whether what the guest sent on COM1 since the checkpoint before (or power-on) is known to be all in
  // point(i).serial.
  bool knows_serial(std::size_t i) const {
    return !checkpoints_[i].after_gap && !checkpoints_[i].record.point.serial_left_out;
  }

  // For a writer that goes on where a file ends. The contents that are stored in the records up to the one of
  // checkpoint `i`, which must not lie behind damage: one batch for each record.
  struct PageBatch {  // pages that follow each other in number and in the file
    u32 first = 0;
    u64 offset = 0;
    std::vector<StoredPage> pages;
    std::vector<u64> marks;  // offset of every kMarkEvery-th page

    PageBatch(u32 first_number, u64 at, std::vector<StoredPage> stored);
    bool has(u32 number) const { return number >= first && number - first < pages.size(); }
    u64 offset_of(u32 number) const;
  };
  std::span<const PageBatch> batches(std::size_t i) const {
    DEJA_CHECK(i < batches_.size() && is_unbroken(i), "checkpoint {} is behind damage", i);
    return {batches_.data(), i + 1};
  }
  // Whether records 0 to `i` are there without a gap.
  bool is_unbroken(std::size_t i) const;
  // Their bytes, from behind the file header, piece by piece.
  Status copy_records(std::size_t i, const std::function<Status(std::string_view)>& to) const;
  // The bytes of stored pages as they are in the file: of `numbers` (ascending, none twice), or of a batch.
  Status copy_pages(std::span<const u32> numbers, const std::function<Status(std::string_view)>& to) const;
  Status copy_batch(const PageBatch& batch, const std::function<Status(std::string_view)>& to) const;

 private:
  struct Checkpoint {
    CheckpointRecord record;
    // The one before is damaged: `written` is not all that changed since the last sound one.
    bool after_gap = false;
    u64 end = 0;  // of its record in the file
  };
  Status load(u64 recording);
  // Hands bytes of the file on, piece by piece.
  Status copy_bytes(u64 from, u64 to, const std::function<Status(std::string_view)>& use) const;
  struct WantedPage {
    u32 number;
    u64 offset;  // in the file
    const StoredPage* page;
  };
  // Null: none, or in a damaged part.
  const PageBatch* batch_of(u32 number) const;
  Result<WantedPage> find(u32 number) const;
  Status unpack(const WantedPage& wanted, const char* stored, u8* page) const;
  // Reads pages as they are stored.
  Status read_stored(std::span<const u32> numbers,
                     const std::function<Status(const WantedPage&, const char*)>& use) const;
  // The last whole one at or before `i`; the first is, or stands behind nothing but damage.
  std::size_t whole_before(std::size_t i) const;

  std::string path_;
  int fd_ = -1;
  MachineShape shape_;
  u64 file_bytes_ = 0;
  std::string problem_;
  std::vector<Checkpoint> checkpoints_;
  std::vector<PageBatch> batches_;
  mutable u64 ahead_at_ = 0;  // where what read_page read last stands in the file
  mutable std::string ahead_;
};

}  // namespace deja
