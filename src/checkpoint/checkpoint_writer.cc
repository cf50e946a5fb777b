#include "checkpoint/checkpoint_writer.h"

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <utility>

#include "checkpoint/rebase.h"

#include "checkpoint/page_codec.h"

namespace deja {
namespace {

constexpr std::array<u8, kPageSize> kZeros{};
constexpr u64 kMostWaiting = 256_MiB;  // copies in memory; beyond that checkpoints wait
constexpr std::size_t kSpares = 2;
constexpr u64 kWholeEvery = 16;  // records

// Empties `pages` and makes room for `bytes`: the guest stands still meanwhile, so what was there is not
// copied, and there is some to spare for the next one.
void make_room(std::vector<u8>& pages, u64 bytes) {
  pages.clear();
  if (bytes > pages.capacity()) pages.reserve(bytes + bytes / 4);
}

}  // namespace

CheckpointWriter::CheckpointWriter(std::unique_ptr<AppendFile> file, GuestRam& ram)
    : ram_(ram), written_(ram.frames()), file_(std::move(file)), image_(ram.frames(), kPowerOnPage) {
  ram_.collect_writes();  // what the loader wrote is not to be told of
  ram_.attach(&written_);
}

Result<std::unique_ptr<CheckpointWriter>> CheckpointWriter::open(std::unique_ptr<AppendFile> file,
                                                                 u64 recording, GuestRam& ram) {
  const std::string header = make_checkpoint_file_header(recording);
  DEJA_TRY(file->append(header));
  std::unique_ptr<CheckpointWriter> writer(new CheckpointWriter(std::move(file), ram));
  writer->bytes_ = header.size();
  writer->recording_ = recording;
  return writer;
}

void CheckpointWriter::start() {
  // Host signals are the machine's thread's.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { work(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Result<std::unique_ptr<CheckpointWriter>> CheckpointWriter::create(std::unique_ptr<AppendFile> file,
                                                                   u64 recording, GuestRam& ram) {
  DEJA_ASSIGN(std::unique_ptr<CheckpointWriter> writer, open(std::move(file), recording, ram));
  writer->start();
  return writer;
}

Result<std::unique_ptr<CheckpointWriter>> CheckpointWriter::resume(std::unique_ptr<AppendFile> file,
                                                                   u64 recording, GuestRam& ram,
                                                                   const Continuation& from) {
  DEJA_ASSIGN(std::unique_ptr<CheckpointWriter> writer, open(std::move(file), recording, ram));
  DEJA_TRY(writer->copy_from(from));
  writer->start();
  return writer;
}

Status CheckpointWriter::copy_from(const Continuation& from) {
  for (const u32 frame : from.frames) written_.add(frame);
  disks_ = from.disks;
  blocks_.resize(disks_.size());
  if (!from.reader) return {};
  DEJA_CHECK(from.reader->is_unbroken(from.checkpoint), "checkpoint {} lies behind damage", from.checkpoint);
  DEJA_TRY(from.reader->copy_records(from.checkpoint, [&](std::string_view bytes) {
    bytes_ += bytes.size();
    return file_->append(bytes);
  }));
  for (const CheckpointReader::PageBatch& batch : from.reader->batches(from.checkpoint)) {
    next_number_ = batch.first;
    for (const StoredPage& page : batch.pages) numbers_.try_emplace(page.key, next_number_++);
  }
  image_ = from.reader->image(from.checkpoint);
  for (unsigned i = 0; i < disks_.size(); ++i)
    for (const FramePage& b : from.reader->disk(from.checkpoint, i)) blocks_[i][b.frame] = b.page;
  taken_ = records_ = from.checkpoint + 1;
  return {};
}

CheckpointWriter::~CheckpointWriter() {
  (void)finish().ok();
  ram_.detach(&written_);
}

bool CheckpointWriter::ready() const {
  const std::lock_guard lock(mutex_);
  return waiting_bytes_ < kMostWaiting;
}

void CheckpointWriter::wait_until_ready() {
  std::unique_lock lock(mutex_);
  written_out_.wait(lock, [&] { return waiting_bytes_ < kMostWaiting; });
}

u64 CheckpointWriter::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

void CheckpointWriter::take(CheckpointPoint point) {
  std::unique_ptr<Job> job;
  {
    const std::lock_guard lock(mutex_);
    if (!status_ || stop_) return;
    if (!spare_.empty()) {
      job = std::move(spare_.back());
      spare_.pop_back();
    }
  }
  if (!job) job = std::make_unique<Job>();
  ram_.collect_writes();
  job->point = std::move(point);
  job->frames = written_.frames();
  written_.clear();
  std::sort(job->frames.begin(), job->frames.end());
  make_room(job->pages, job->frames.size() * kPageSize);
  for (const u32 frame : job->frames) {
    const u8* page = ram_.host(Gpa(u64{frame} << kPageShift));
    job->pages.insert(job->pages.end(), page, page + kPageSize);
  }
  Status status;
  job->zero_blocks.clear();
  for (const auto& blocks : take_disks(*job)) {
    for (const DiskOverlay::NumberedBlock& b : blocks) {
      job->zero_blocks.push_back(b.block->is_zero());
      if (b.block->is_zero()) continue;
      StoredBlock::Bytes bytes;
      if (status) status = b.block->read(&bytes);
      job->pages.insert(job->pages.end(), bytes.begin(), bytes.end());
    }
  }
  const std::lock_guard lock(mutex_);
  if (!status) {
    status_ = status;
    return;
  }
  ++taken_;
  waiting_bytes_ += job->pages.size();
  jobs_.push_back(std::move(job));
  changed_.notify_all();
}

std::vector<std::vector<DiskOverlay::NumberedBlock>> CheckpointWriter::take_disks(Job& job) {
  std::vector<DiskOverlay::Snapshot> now = std::move(job.point.machine.disks);
  job.point.machine.disks.clear();
  disks_.resize(now.size());
  job.blocks.assign(now.size(), {});
  std::vector<std::vector<DiskOverlay::NumberedBlock>> written;
  for (std::size_t i = 0; i < now.size(); ++i) {
    written.push_back(DiskOverlay::changes(disks_[i], now[i]));
    for (const DiskOverlay::NumberedBlock& b : written.back())
      job.blocks[i].push_back(static_cast<u32>(b.number));
  }
  disks_ = std::move(now);
  return written;
}

Status CheckpointWriter::take_base(CheckpointPoint point) {
  DEJA_CHECK(taken_ == 0, "the base comes first, and {} checkpoints are taken", taken_);
  Job job;
  job.point = std::move(point);
  ram_.collect_writes();
  const auto address = [](u32 frame) { return Gpa(u64{frame} << kPageShift); };
  for (u32 frame = 0; frame < ram_.frames(); ++frame)
    if (ram_.contains(address(frame))) job.frames.push_back(frame);
  std::vector<DiskOverlay::NumberedBlock> blocks;
  for (const auto& disk : take_disks(job)) blocks.insert(blocks.end(), disk.begin(), disk.end());
  written_.clear();
  ++taken_;
  // Nothing has been handed to the thread yet, so what is its own is free.
  StoredBlock::Bytes bytes;
  return write(job, [&](std::size_t i) -> Result<const u8*> {
    if (i < job.frames.size()) return ram_.host(address(job.frames[i]));
    DEJA_TRY(blocks[i - job.frames.size()].block->read(&bytes));
    return bytes.data();
  });
}

Status CheckpointWriter::finish() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    changed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
  return status_;
}

Status CheckpointWriter::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

void CheckpointWriter::begin_move(Move move) {
  const std::lock_guard lock(mutex_);
  move_ = std::move(move);
  changed_.notify_all();
}

std::optional<Status> CheckpointWriter::move_outcome() {
  const std::lock_guard lock(mutex_);
  return std::exchange(move_outcome_, std::nullopt);
}

Status CheckpointWriter::follow(Move& move) {
  DEJA_TRY(status());
  const CheckpointReader from = CheckpointReader::open(move.path, recording_, move.shape);
  const std::size_t upto = from.count_up_to(move.base);
  if (!from.problem().empty()) return make_error("{}", from.problem());
  if (!upto || from.point(upto - 1).step != move.base)
    return make_error("{}: the checkpoint at step {} is not there", move.path.string(), move.base);
  const std::string header = make_checkpoint_file_header(recording_);
  DEJA_TRY(move.file->append(header));
  u64 written = header.size();
  DEJA_ASSIGN(const RebaseReport copy, rebase_checkpoints(from, {upto - 1, move.opening_events},
                                                          [&](std::string_view bytes) -> Status {
                                                            {
                                                              const std::lock_guard lock(mutex_);
                                                              if (stop_)
                                                                return make_error("the session has ended");
                                                            }
                                                            written += bytes.size();
                                                            return move.file->append(bytes);
                                                          }));
  DEJA_TRY(move.file->sync());
  file_ = std::move(move.file);
  events_before_ += from.point(upto - 1).events - move.opening_events;
  records_ = copy.records;
  next_number_ = copy.next_number;
  const auto renumber = [&](u32& number) {
    if (number < kFirstStoredPage) return;
    DEJA_CHECK(number < copy.new_numbers.size(), "page {} of {}", number, copy.new_numbers.size());
    number = copy.new_numbers[number];
  };
  for (u32& number : image_) renumber(number);
  for (PageImage& blocks : blocks_)
    for (auto& [block, number] : blocks) renumber(number);
  for (auto& [key, number] : numbers_) renumber(number);
  std::erase_if(numbers_, [](const auto& entry) { return entry.second == 0; });
  const std::lock_guard lock(mutex_);
  bytes_ = written;
  return {};
}

void CheckpointWriter::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !jobs_.empty() || move_; });
    // The checkpoint that it begins with may still wait to be written.
    const bool can_move = jobs_.empty() || (move_ && jobs_.front()->point.step > move_->base);
    if (move_ && !stop_ && can_move) {
      Move move = std::move(*move_);
      move_.reset();
      lock.unlock();
      Status outcome = follow(move);
      lock.lock();
      move_outcome_ = std::move(outcome);
      continue;
    }
    if (jobs_.empty()) return;
    std::unique_ptr<Job> job = std::move(jobs_.front());
    jobs_.pop_front();
    const bool sound = status_.ok();
    lock.unlock();
    // Asked for in order.
    const auto page = [&, next = std::size_t{0}](std::size_t i) mutable {
      const std::size_t frames = job->frames.size();
      const bool zero = i >= frames && job->zero_blocks[i - frames];
      DEJA_CHECK(zero || (next + 1) * kPageSize <= job->pages.size(), "page {} of {} bytes", next,
                 job->pages.size());
      return Result<const u8*>(zero ? kZeros.data() : &job->pages[next++ * kPageSize]);
    };
    Status status = sound ? write(*job, page) : Status();
    lock.lock();
    if (!status) status_ = std::move(status);
    DEJA_CHECK(waiting_bytes_ >= job->pages.size(), "{} bytes of {} that wait are written", job->pages.size(),
               waiting_bytes_);
    waiting_bytes_ -= job->pages.size();
    written_out_.notify_all();
    if (spare_.size() < kSpares) spare_.push_back(std::move(job));
  }
}

u32 CheckpointWriter::number_of(const u8* page, CheckpointRecord& record, std::string& payload) {
  if (is_zero_page(page)) return kZeroPage;
  const auto [place, fresh] = numbers_.try_emplace(page_key(page), next_number_);
  if (!fresh) return place->second;
  char packed[kPageSize];
  const std::size_t size = pack_page(page, packed);
  record.new_pages.push_back({place->first, static_cast<u16>(size)});
  payload.append(packed, size);
  return next_number_++;
}

Status CheckpointWriter::write(Job& job, const std::function<Result<const u8*>(std::size_t)>& page) {
  CheckpointRecord record;
  record.point = std::move(job.point);
  record.point.events -= events_before_;
  record.first_new = next_number_;
  record.whole = records_ % kWholeEvery == 0;
  std::string payload;
  record.ram.written.reserve(job.frames.size());
  for (std::size_t i = 0; i < job.frames.size(); ++i) {
    DEJA_ASSIGN(const u8* const content, page(i));
    const u32 number = number_of(content, record, payload);
    record.ram.written.push_back({job.frames[i], number});
    image_[job.frames[i]] = number;
  }
  blocks_.resize(job.blocks.size());
  std::size_t next = job.frames.size();
  for (std::size_t i = 0; i < job.blocks.size(); ++i) {
    PageChanges& disk = record.disks.emplace_back();
    for (const u32 at : job.blocks[i]) {
      DEJA_ASSIGN(const u8* const content, page(next++));
      const u32 number = number_of(content, record, payload);
      disk.written.push_back({at, number});
      blocks_[i][at] = number;
    }
  }
  if (record.whole) {
    const auto add_other = [](std::vector<FramePage>& others, const std::vector<u32>& written, u32 frame,
                              u32 number) {
      if (number != kPowerOnPage && !std::binary_search(written.begin(), written.end(), frame))
        others.push_back({frame, number});
    };
    for (u32 frame = 0; frame < image_.size(); ++frame)
      add_other(record.ram.others, job.frames, frame, image_[frame]);
    for (std::size_t i = 0; i < blocks_.size(); ++i)
      for (const auto& [at, number] : blocks_[i])
        add_other(record.disks[i].others, job.blocks[i], at, number);
  }
  const std::string head = encode_checkpoint(record);
  const u64 before = bytes();
  Status status = file_->append(head);
  if (status) status = file_->append(payload);
  if (!status) {
    // A record that is not whole is ignored by readers; cutting it off only frees the space.
    (void)file_->truncate(before).ok();
    return status;
  }
  ++records_;
  const std::lock_guard lock(mutex_);
  bytes_ = before + head.size() + payload.size();
  return {};
}

}  // namespace deja
