#include "checkpoint/checkpoint_reader.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <utility>

#include "base/host_io.h"
#include "base/host_limits.h"
#include "checkpoint/page_codec.h"
#include "eventlog/recording_file.h"

namespace deja {
namespace {

constexpr u64 kReadAtOnce = 1_MiB;
constexpr u64 kReadAhead = 16 * 1024;
constexpr std::size_t kMarkEvery = 64;
constexpr u64 kReadOver = 16 * 1024;  // bytes that are read for nothing rather than begin another read

// Up to `size` bytes at `offset`; fewer at the end of the file.
Result<std::string> read_piece(int fd, u64 offset, u64 size) {
  std::string out;
  if (const int error = read_at(fd, offset, size, &out))
    return make_error("byte {}: cannot read: {}", offset + out.size(), host_error(error));
  return out;
}

}  // namespace

CheckpointReader::PageBatch::PageBatch(u32 first_number, u64 at, std::vector<StoredPage> stored)
    : first(first_number), offset(at), pages(std::move(stored)) {
  for (std::size_t i = 0; i < pages.size(); ++i) {
    if (i % kMarkEvery == 0) marks.push_back(at);
    at += pages[i].size;
  }
}

u64 CheckpointReader::PageBatch::offset_of(u32 number) const {
  DEJA_CHECK(has(number), "page {} in a batch of {} from {} on", number, pages.size(), first);
  const std::size_t index = number - first;
  u64 at = marks[index / kMarkEvery];
  for (std::size_t i = index / kMarkEvery * kMarkEvery; i < index; ++i) at += pages[i].size;
  return at;
}

CheckpointReader::CheckpointReader(CheckpointReader&& o) noexcept { *this = std::move(o); }

CheckpointReader& CheckpointReader::operator=(CheckpointReader&& o) noexcept {
  std::swap(path_, o.path_);
  std::swap(fd_, o.fd_);
  std::swap(shape_, o.shape_);
  std::swap(file_bytes_, o.file_bytes_);
  std::swap(problem_, o.problem_);
  std::swap(checkpoints_, o.checkpoints_);
  std::swap(batches_, o.batches_);
  std::swap(ahead_at_, o.ahead_at_);
  std::swap(ahead_, o.ahead_);
  return *this;
}

CheckpointReader::~CheckpointReader() {
  if (fd_ >= 0) ::close(fd_);
}

CheckpointReader CheckpointReader::open(const std::filesystem::path& file, u64 recording,
                                        MachineShape shape) {
  auto fd = open_recording_file(file);
  if (fd) return adopt(file, *fd, recording, std::move(shape));
  CheckpointReader none;
  none.shape_ = std::move(shape);
  none.path_ = file.string();
  if (recording_file_exists(file.parent_path(), file.filename().string()))
    none.problem_ = fmt::format("{}; none of its checkpoints can be used, `deja index` makes new ones",
                                fd.error().message);
  return none;
}

CheckpointReader CheckpointReader::adopt(const std::filesystem::path& file, int fd, u64 recording,
                                         MachineShape shape) {
  CheckpointReader reader;
  reader.shape_ = std::move(shape);
  reader.path_ = file.string();
  reader.fd_ = fd;
  if (Status status = reader.load(recording); !status)
    reader.problem_ = fmt::format(
        "{}: {}; {} checkpoints can be used, `deja index` makes new ones", reader.path_,
        status.error().message,
        reader.checkpoints_.empty() ? "none of its" : fmt::format("{} of its", reader.checkpoints_.size()));
  return reader;
}

// The first thing that is wrong is returned; what is sound is kept.
Status CheckpointReader::load(u64 recording) {
  DEJA_ASSIGN(const std::string head, read_piece(fd_, 0, kCheckpointFileHeaderSize));
  if (head.empty()) return {};  // just being made
  DEJA_ASSIGN(const u64 owner, parse_checkpoint_file_header(head));
  if (owner != recording) return make_error("these are checkpoints of another recording");
  u64 at = kCheckpointFileHeaderSize;
  Status first_problem;
  const auto wrong = [&](const std::string& what) {
    if (first_problem) first_problem = make_error("byte {}: {}", at, what);
  };
  bool whole_needed = true, gap = false;  // the first one has to stand by itself
  struct stat st {};
  (void)::fstat(fd_, &st);
  while (true) {
    auto bytes = read_piece(fd_, at, kRecordHeaderSize);
    if (!bytes) return bytes.error();
    if (bytes->size() < kRecordHeaderSize) break;  // the end, or cut off
    auto header = parse_record_header(*bytes);
    if (!header) {
      wrong(header.error().message);
      break;
    }
    const u64 meta_at = at + kRecordHeaderSize, pages_at = meta_at + header->meta_size;
    const u64 end = pages_at + header->pages_size;
    if (end > static_cast<u64>(st.st_size)) break;  // being written, or cut off
    auto meta = read_piece(fd_, meta_at, header->meta_size);
    if (!meta) return meta.error();
    auto record = decode_checkpoint(*meta, *header, shape_);
    if (record && !checkpoints_.empty() && record->point.step <= checkpoints_.back().record.point.step)
      record = make_error("its step is not behind that of the checkpoint before");
    if (record && !batches_.empty() &&
        record->first_new < batches_.back().first + batches_.back().pages.size())
      record = make_error("its pages have numbers of others");
    if (!record) {
      wrong(fmt::format("a checkpoint is damaged: {}", record.error().message));
      whole_needed = gap = true;
    } else {
      batches_.emplace_back(record->first_new, pages_at, std::exchange(record->new_pages, {}));
      if (record->whole) whole_needed = false;
      if (whole_needed)
        gap = true;  // it leans on what is not there
      else
        checkpoints_.push_back({std::move(*record), std::exchange(gap, false), end});
    }
    at = end;
  }
  file_bytes_ = at;
  return first_problem;
}

std::size_t CheckpointReader::count_up_to(Step step) const {
  const auto after = std::upper_bound(checkpoints_.begin(), checkpoints_.end(), step,
                                      [](Step s, const Checkpoint& c) { return s < c.record.point.step; });
  return static_cast<std::size_t>(after - checkpoints_.begin());
}

RamImage CheckpointReader::image(std::size_t i) const {
  DEJA_CHECK(i < checkpoints_.size(), "checkpoint {} of {} in {}", i, checkpoints_.size(), path_);
  RamImage out(shape_.frames, kPowerOnPage);
  const std::size_t from = whole_before(i);
  for (std::size_t k = from; k <= i; ++k) {
    for (const FramePage& f : checkpoints_[k].record.ram.written) out[f.frame] = f.page;
    if (k == from)
      for (const FramePage& f : checkpoints_[k].record.ram.others) out[f.frame] = f.page;
  }
  return out;
}

std::vector<FramePage> CheckpointReader::disk(std::size_t i, unsigned drive) const {
  DEJA_CHECK(i < checkpoints_.size() && drive < shape_.disk_blocks.size(),
             "checkpoint {} of {}, disk {} of {} in {}", i, checkpoints_.size(), drive,
             shape_.disk_blocks.size(), path_);
  std::map<u32, u32> pages;
  const std::size_t from = whole_before(i);
  for (std::size_t k = from; k <= i; ++k) {
    const PageChanges& changes = checkpoints_[k].record.disks[drive];
    for (const FramePage& f : changes.written) pages[f.frame] = f.page;
    if (k == from)
      for (const FramePage& f : changes.others) pages[f.frame] = f.page;
  }
  std::vector<FramePage> out;
  out.reserve(pages.size());
  for (const auto& [block, page] : pages)
    if (page != kPowerOnPage) out.push_back({block, page});
  return out;
}

std::size_t CheckpointReader::whole_before(std::size_t i) const {
  while (i > 0 && !checkpoints_[i].record.whole) --i;
  DEJA_CHECK(checkpoints_[i].record.whole, "{}: the first checkpoint leans on another", path_);
  return i;
}

bool CheckpointReader::is_unbroken(std::size_t i) const {
  DEJA_CHECK(i < checkpoints_.size(), "checkpoint {} of {} in {}", i, checkpoints_.size(), path_);
  for (std::size_t k = 0; k <= i; ++k)
    if (checkpoints_[k].after_gap) return false;
  return true;
}

Status CheckpointReader::copy_bytes(u64 from, u64 to,
                                    const std::function<Status(std::string_view)>& use) const {
  while (from < to) {
    const u64 size = std::min(kReadAtOnce, to - from);
    DEJA_ASSIGN(const std::string bytes, read_piece(fd_, from, size));
    if (bytes.size() < size) return make_error("{}: ends before byte {}", path_, from + size);
    DEJA_TRY(use(bytes));
    from += size;
  }
  return {};
}

Status CheckpointReader::copy_records(std::size_t i,
                                      const std::function<Status(std::string_view)>& to) const {
  return copy_bytes(kCheckpointFileHeaderSize, checkpoints_[i].end, to);
}

Status CheckpointReader::copy_batch(const PageBatch& batch,
                                    const std::function<Status(std::string_view)>& to) const {
  u64 end = batch.offset;
  for (const StoredPage& page : batch.pages) end += page.size;
  return copy_bytes(batch.offset, end, to);
}

Status CheckpointReader::copy_pages(std::span<const u32> numbers,
                                    const std::function<Status(std::string_view)>& to) const {
  std::string piece;
  DEJA_TRY(read_stored(numbers, [&](const WantedPage& w, const char* stored) -> Status {
    piece.append(stored, w.page->size);
    if (piece.size() < kReadAtOnce) return {};
    DEJA_TRY(to(piece));
    piece.clear();
    return {};
  }));
  return to(piece);
}

bool CheckpointReader::may_have_written(std::size_t i, u32 frame) const {
  if (checkpoints_[i].after_gap) return true;
  const std::vector<FramePage>& written = checkpoints_[i].record.ram.written;
  const auto place = std::lower_bound(written.begin(), written.end(), frame,
                                      [](const FramePage& f, u32 wanted) { return f.frame < wanted; });
  return place != written.end() && place->frame == frame;
}

Status CheckpointReader::read_pages(std::span<const u32> numbers,
                                    const std::function<void(u32, const u8*)>& use) const {
  u8 content[kPageSize];
  return read_stored(numbers, [&](const WantedPage& w, const char* stored) -> Status {
    DEJA_TRY(unpack(w, stored, content));
    use(w.number, content);
    return {};
  });
}

Status CheckpointReader::unpack(const WantedPage& w, const char* stored, u8* page) const {
  if (unpack_page(stored, w.page->size, page) && page_key(page) == w.page->key) return {};
  return make_error("{}: byte {}: page {} is damaged", path_, w.offset, w.number);
}

Status CheckpointReader::read_page(u32 number, u8* page) const {
  DEJA_ASSIGN(const WantedPage wanted, find(number));
  const u64 end = wanted.offset + wanted.page->size;
  if (wanted.offset < ahead_at_ || end > ahead_at_ + ahead_.size()) {
    ahead_.clear();
    DEJA_ASSIGN(ahead_, read_piece(fd_, wanted.offset, kReadAhead));
    ahead_at_ = wanted.offset;
  }
  if (end > ahead_at_ + ahead_.size()) return make_error("{}: ends before byte {}", path_, end);
  return unpack(wanted, ahead_.data() + (wanted.offset - ahead_at_), page);
}

const CheckpointReader::PageBatch* CheckpointReader::batch_of(u32 number) const {
  const auto after = std::upper_bound(batches_.begin(), batches_.end(), number,
                                      [](u32 n, const PageBatch& b) { return n < b.first; });
  return after != batches_.begin() && (after - 1)->has(number) ? &*(after - 1) : nullptr;
}

bool CheckpointReader::has_page(u32 number) const { return batch_of(number) != nullptr; }

Result<CheckpointReader::WantedPage> CheckpointReader::find(u32 number) const {
  const PageBatch* const batch = batch_of(number);
  if (!batch) return make_error("{}: page {} is in a damaged part", path_, number);
  return WantedPage{number, batch->offset_of(number), &batch->pages[number - batch->first]};
}

std::optional<CheckpointReader::Origin> CheckpointReader::origin(u32 number) const {
  const PageBatch* const batch = batch_of(number);
  if (!batch) return std::nullopt;
  for (std::size_t i = 0; i < checkpoints_.size(); ++i) {
    if (checkpoints_[i].record.first_new != batch->first) continue;
    for (const FramePage& f : checkpoints_[i].record.ram.written)
      if (f.page == number) return Origin{i, f.frame, batch->pages[number - batch->first].key};
  }
  return std::nullopt;
}

Status CheckpointReader::read_stored(std::span<const u32> numbers,
                                     const std::function<Status(const WantedPage&, const char*)>& use) const {
  std::vector<WantedPage> wanted;
  wanted.reserve(numbers.size());
  DEJA_CHECK(std::is_sorted(numbers.begin(), numbers.end()), "{}: pages are asked for out of order", path_);
  for (const u32 number : numbers) {
    DEJA_ASSIGN(const WantedPage page, find(number));
    wanted.push_back(page);
  }
  for (std::size_t i = 0; i < wanted.size();) {
    const u64 from = wanted[i].offset;
    u64 to = from + wanted[i].page->size;
    std::size_t end = i + 1;
    for (; end < wanted.size(); ++end) {
      const u64 next_to = wanted[end].offset + wanted[end].page->size;
      if (wanted[end].offset > to + kReadOver || next_to - from > kReadAtOnce) break;
      to = next_to;
    }
    DEJA_ASSIGN(const std::string bytes, read_piece(fd_, from, to - from));
    if (bytes.size() < to - from) return make_error("{}: ends before byte {}", path_, to);
    for (; i < end; ++i) DEJA_TRY(use(wanted[i], bytes.data() + (wanted[i].offset - from)));
  }
  return {};
}

}  // namespace deja
