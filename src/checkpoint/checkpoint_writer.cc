#include "checkpoint/checkpoint_writer.h"

#include <pthread.h>
#include <signal.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

namespace deja {
namespace {

constexpr u64 kMostWaiting = 256_MiB;  // copies in memory; beyond that checkpoints wait
constexpr std::size_t kSpares = 2;
constexpr u64 kWholeEvery = 16;  // records
constexpr int kPageLevel = 1;

}  // namespace

CheckpointWriter::CheckpointWriter(std::unique_ptr<AppendFile> file, GuestRam& ram)
    : ram_(ram), written_(ram.frames()), file_(std::move(file)), image_(ram.frames(), kPowerOnPage) {
  ram_.collect_writes();  // what the loader wrote is not to be told of
  ram_.attach(&written_);
}

Result<std::unique_ptr<CheckpointWriter>> CheckpointWriter::create(std::unique_ptr<AppendFile> file,
                                                                   u64 recording, GuestRam& ram) {
  const std::string header = make_checkpoint_file_header(recording);
  DEJA_TRY(file->append(header));
  std::unique_ptr<CheckpointWriter> writer(new CheckpointWriter(std::move(file), ram));
  writer->bytes_ = header.size();
  // Host signals are the machine's thread's.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  writer->thread_ = std::thread([w = writer.get()] { w->work(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return writer;
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
  job->pages.resize(job->frames.size() * kPageSize);
  u8* to = job->pages.data();
  for (const u32 frame : job->frames) {
    std::memcpy(to, ram_.host(Gpa(u64{frame} << kPageShift)), kPageSize);
    to += kPageSize;
  }
  ++taken_;
  const std::lock_guard lock(mutex_);
  waiting_bytes_ += job->pages.size();
  jobs_.push_back(std::move(job));
  changed_.notify_all();
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

void CheckpointWriter::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    std::unique_ptr<Job> job = std::move(jobs_.front());
    jobs_.pop_front();
    const bool sound = status_.ok();
    lock.unlock();
    Status status = sound ? write(*job) : Status();
    lock.lock();
    if (!status) status_ = std::move(status);
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
  std::size_t size = ZSTD_compress(packed, sizeof packed, page, kPageSize, kPageLevel);
  if (ZSTD_isError(size) || size >= kPageSize) {
    size = kPageSize;
    std::memcpy(packed, page, kPageSize);
  }
  record.new_pages.push_back({place->first, static_cast<u16>(size)});
  payload.append(packed, size);
  return next_number_++;
}

Status CheckpointWriter::write(Job& job) {
  CheckpointRecord record;
  record.point = std::move(job.point);
  record.first_new = next_number_;
  record.whole = records_ % kWholeEvery == 0;
  std::string payload;
  record.written.reserve(job.frames.size());
  for (std::size_t i = 0; i < job.frames.size(); ++i) {
    const u32 number = number_of(&job.pages[i * kPageSize], record, payload);
    record.written.push_back({job.frames[i], number});
    image_[job.frames[i]] = number;
  }
  if (record.whole) {
    auto next = job.frames.begin();
    for (u32 frame = 0; frame < image_.size(); ++frame) {
      if (next != job.frames.end() && *next == frame)
        ++next;
      else if (image_[frame] != kPowerOnPage)
        record.others.push_back({frame, image_[frame]});
    }
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
