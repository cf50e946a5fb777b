#include "replay/flight_recorder.h"

#include <utility>

namespace deja {
namespace {

// What a log begins with: when it was, and what the machine is.
constexpr u64 kOpeningEvents = 3;
constexpr u64 kEventsAtOnce = 2000;  // take about a millisecond to copy

}  // namespace

FlightRecorder::FlightRecorder(RecordingWriter& recording, CheckpointWriter& checkpoints, MachineShape shape,
                               HostClock& clock, std::function<void(std::string_view)> notify, u64 began_ns)
    : recording_(recording),
      checkpoints_(checkpoints),
      shape_(std::move(shape)),
      clock_(clock),
      notify_(std::move(notify)),
      keep_ns_(recording.manifest().window->keep_ns),
      began_ns_(began_ns) {}

FlightRecorder::~FlightRecorder() {
  if (!target_) return;
  recording_.files().remove(next_path(events_file));
  recording_.files().remove(next_path(checkpoints_file));
}

std::filesystem::path FlightRecorder::next_path(std::string (*file)(const RecordingManifest&)) const {
  return recording_.dir() / file(recording_.next_manifest());
}

Status FlightRecorder::tick(u64 host_ns) {
  now_ns_ = host_ns;
  DEJA_TRY(checkpoints_.status());
  if (target_)
    step();
  else if (now_ns_ - began_ns_ >= keep_ns_ + keep_ns_ / 2 && now_ns_ >= next_try_ns_)
    begin();
  return {};
}

void FlightRecorder::begin() {
  // The last one that leaves enough.
  while (moments_.size() > 1 && moments_[1].host_ns + keep_ns_ <= now_ns_) moments_.pop_front();
  if (moments_.empty() || moments_.front().host_ns + keep_ns_ > now_ns_) return;
  target_ = std::move(moments_.front());
  moments_.pop_front();
  checkpoints_moved_ = false;
  auto file = recording_.files().create(next_path(checkpoints_file));
  if (!file) return give_up(file.error());
  checkpoints_.begin_move({std::move(*file), recording_.dir() / checkpoints_file(recording_.manifest()),
                           shape_, target_->base.step, kOpeningEvents});
}

void FlightRecorder::step() {
  if (!checkpoints_moved_) {
    const std::optional<Status> outcome = checkpoints_.move_outcome();
    if (!outcome) return;
    if (!*outcome) return give_up(outcome->error());
    checkpoints_moved_ = true;
  }
  if (now_ns_ < next_try_ns_) return;
  Result<bool> copied = copy_log(kEventsAtOnce);
  if (!copied) return give_up(copied.error());
  if (!*copied) return;
  if (Status status = recording_.move_to(target_->base, std::move(new_log_), digests_); !status)
    return give_up(status.error());
  events_before_ = target_->events - kOpeningEvents;
  began_ns_ = target_->host_ns;
  moved_ = true;
  target_.reset();
  old_log_.reset();
  told_ = false;
}

Status FlightRecorder::start_log() {
  DEJA_ASSIGN(old_log_, LogReader::open((recording_.dir() / events_file(recording_.manifest())).string()));
  DEJA_ASSIGN(auto file, recording_.files().create(next_path(events_file)));
  DEJA_ASSIGN(new_log_, LogWriter::create(std::move(file), clock_));
  old_events_ = digests_ = 0;
  const Step step = target_->base.step;
  DEJA_TRY(new_log_->append({step, event::Progress{target_->host_ns}}));
  return new_log_->append({step, event::WallClock{target_->unix_ns}});
}

Result<bool> FlightRecorder::copy_log(u64 events) {
  if (!new_log_) DEJA_TRY(start_log());
  DEJA_TRY(recording_.flush());
  while (events--) {
    DEJA_ASSIGN(const std::optional<LogEvent> event, old_log_->next());
    if (!event) return true;
    // The digest that the moment's checkpoint comes behind is the first to be copied.
    if (++old_events_ < target_->events - events_before_) continue;
    const bool digest = std::holds_alternative<event::Digest>(event->body);
    if (digests_ == 0) DEJA_CHECK(digest && event->step == target_->base.step, "event {}", old_events_);
    digests_ += digest;
    DEJA_TRY(new_log_->append(*event));
  }
  return false;
}

// Without a copy of the checkpoints there is nothing to go on with; with it, the log can be copied later.
void FlightRecorder::give_up(const Error& error) {
  old_log_.reset();
  new_log_.reset();
  recording_.files().remove(next_path(events_file));
  if (!checkpoints_moved_) {
    recording_.files().remove(next_path(checkpoints_file));
    target_.reset();
  }
  next_try_ns_ = now_ns_ + keep_ns_ / 4;
  if (!std::exchange(told_, true))
    notify_(fmt::format("{}; until this works the recording keeps more than asked for", error.message));
}

void FlightRecorder::finish() {
  next_try_ns_ = 0;
  // Each step copies some of the log; one that fails sets the next try's time.
  while (target_ && (step(), checkpoints_moved_) && !next_try_ns_) continue;
}

}  // namespace deja
