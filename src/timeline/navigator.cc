#include "timeline/navigator.h"

#include <algorithm>
#include <exception>
#include <system_error>
#include <thread>

#include "base/log.h"
#include "replay/apply.h"
#include "replay/checkpointing.h"
#include "replay/position.h"
#include "timeline/own_signals.h"

namespace deja {
namespace {

// As a new thread of C++ expects it.
void reset_fpu() {
  constexpr u32 kMxcsr = 0x1f80;
  asm volatile("fninit; ldmxcsr %0" ::"m"(kMxcsr));
}

// On the way to a position snapshots are taken at half the distance, a quarter… down to this many steps from
// it: that many run in a tenth of a millisecond.
constexpr Step kFinest = 16'384;
// On a way forward that may be observed: after so many steps, which take about 10 ms.
constexpr Step kTrail = 4'000'000;
// Snapshots at a distance d from the present lie at least d / kDensity apart.
constexpr Step kDensity = 5;
// Further ahead than this it is worth leaving where one is for a checkpoint.
constexpr Step kWorthAJump = 2'000'000;

}  // namespace

Result<std::unique_ptr<Navigator>> Navigator::open(const std::filesystem::path& dir,
                                                   const EngineOptions& engine) {
  return open(dir, engine, std::nullopt);
}

Result<std::unique_ptr<Navigator>> Navigator::open(const std::filesystem::path& dir,
                                                   const EngineOptions& engine, std::optional<Step> before) {
  std::unique_ptr<Navigator> navigator(new Navigator(dir, engine));
  DEJA_TRY(navigator->init(before));
  return navigator;
}

Status Navigator::init(std::optional<Step> before) {
  DEJA_ASSIGN(replayer_, Replayer::open_at_power_on(dir_, engine_));
  DEJA_ASSIGN(Recording recording, Recording::reopen(dir_, manifest()));
  survey_ = survey_log(recording);
  steps_ = steps_on_record(manifest(), survey_);
  incomplete_ = incomplete_note(recording.state, survey_, steps_);
  DEJA_ASSIGN(checkpoints_, open_checkpoints(dir_, manifest(), machine()));
  if (!checkpoints_.problem().empty()) log_warn("timeline", "{}", checkpoints_.problem());
  damaged_.resize(checkpoints_.size());
  if (before)
    for (std::size_t i = 0; i < damaged_.size(); ++i) damaged_[i] = checkpoints_.point(i).step >= *before;
  RamHistory::MakeAgain again;
  if (!before) again = [this](u32 number, u8* page) { return make_again(number, page); };
  history_ = std::make_unique<RamHistory>(machine().ram(), checkpoints_, std::move(again));
  disks_ = std::make_unique<DiskHistory>(machine(), checkpoints_);
  if (manifest().base) {
    DEJA_ASSIGN(Replayer::Point base, checkpointed_point(0));
    snapshots_.emplace(first(), Snapshot{std::move(base), ram_at(0)});
  } else {
    snapshots_.emplace(0, Snapshot{replayer_->save(), history_->power_on()});
  }
  return {};
}

// The last one at or before `step` that can be used, as far as is known.
std::optional<std::size_t> Navigator::sound_checkpoint(Step step) const {
  for (std::size_t i = checkpoints_.count_up_to(step); i-- > 0;) {
    // The log of a killed recorder may end before its last checkpoint.
    const CheckpointPoint& p = checkpoints_.point(i);
    if (!damaged_[i] && p.events <= survey_.events && p.step <= last()) return i;
  }
  return std::nullopt;
}

Step Navigator::segment_start(Step step) const {
  DEJA_CHECK(step >= first(), "step {} of a recording that begins at {}", step, first());
  const Step snapshot = std::prev(snapshots_.upper_bound(step))->first;
  const std::optional<std::size_t> checkpoint = sound_checkpoint(step);
  return checkpoint ? std::max(snapshot, checkpoints_.point(*checkpoint).step) : snapshot;
}

Step Navigator::segment_end(Step step) const {
  const std::size_t next = checkpoints_.count_up_to(step);
  return next < checkpoints_.size() ? std::min(last(), checkpoints_.point(next).step) : last();
}

bool Navigator::may_have_been_written(u32 frame, Step from, Step to) const {
  // The intervals that overlap (from, to]: from the one that ends behind `from` to the one that ends at or
  // behind `to`.
  const std::size_t end = checkpoints_.count_up_to(to ? to - 1 : 0);
  if (end >= checkpoints_.size()) return true;
  for (std::size_t i = checkpoints_.count_up_to(from); i <= end; ++i)
    if (checkpoints_.may_have_written(i, frame)) return true;
  return false;
}

// Where a replay stood at a checkpoint, but for the RAM.
Result<Replayer::Point> Navigator::checkpointed_point(std::size_t i) {
  const CheckpointPoint& p = checkpoints_.point(i);
  Replayer::Point point{p.machine, survey_.cursor_before(p.events), p.events, p.warps, p.deliveries, 0};
  DEJA_ASSIGN(point.machine.disks, disks_->disks_at(i));
  const auto digest = std::upper_bound(survey_.digests.begin(), survey_.digests.end(), p.step,
                                       [](Step step, const LogSurvey::Digest& d) { return step < d.step; });
  if (digest != survey_.digests.begin()) point.last_good = (digest - 1)->step;
  return point;
}

// Where the recorder took a digest right before the checkpoint, it is known what the whole of RAM adds up to.
RamHistory::State Navigator::ram_at(std::size_t i) const {
  DEJA_CHECK(i < checkpoints_.size(), "checkpoint {} of {}", i, checkpoints_.size());
  const CheckpointPoint& p = checkpoints_.point(i);
  const auto after =
      std::upper_bound(survey_.digests.begin(), survey_.digests.end(), p.events,
                       [](u64 events, const LogSurvey::Digest& d) { return events <= d.event; });
  std::optional<u64> digest;
  if (after != survey_.digests.begin() && (after - 1)->event + 1 == p.events && (after - 1)->step == p.step)
    digest = (after - 1)->ram;
  return RamHistory::checkpoint(i, digest);
}

Status Navigator::make_again(u32 number, u8* page) {
  const std::optional<CheckpointReader::Origin> origin = checkpoints_.origin(number);
  if (!origin) return make_error("{}: a page of RAM is damaged", dir_.string());
  const Step step = checkpoints_.point(origin->checkpoint).step;
  const auto again = [&]() -> Status {
    if (!repairer_ || repaired_ != origin->checkpoint) {
      log_warn("timeline", "the checkpoint at step {} is damaged; what is missing in it is computed again",
               format_count(step));
      EngineOptions engine = engine_;
      engine.perf_map = false;  // there is one file of that kind
      DEJA_ASSIGN(repairer_, open(dir_, engine, step));
      repaired_ = origin->checkpoint;
      DEJA_TRY(repairer_->seek(step));
    }
    if (!repairer_->machine().ram().read(Gpa(u64{origin->frame} << kPageShift), page, kPageSize) ||
        page_key(page) != origin->key)
      return make_error("the recording leads to another content");
    return {};
  };
  // This thread may have registers of this machine's guest, in the middle of an instruction.
  Status status;
  try {
    const OnlyOwnSignals inherited;
    std::thread([&] {
      reset_fpu();  // a thread begins with those of its maker
      try {
        status = again();
      } catch (const std::exception& error) {  // memory is used up
        status = make_error("{}", error.what());
      }
    }).join();
  } catch (const std::system_error& error) {
    status = make_error("{}", error.what());
  }
  if (status) return {};
  repairer_.reset();
  Error error = make_error("{}: the checkpoint at step {} is damaged and cannot be made again: {}",
                           dir_.string(), format_count(step), status.error().message);
  // A caller that only looks at the machine where it stands sees zeros there.
  log_warn("timeline", "{}", error.message);
  return error;
}

Status Navigator::load_all() {
  history_->load_all();
  Status status = sound();
  if (!status) avoid_damage();
  return status;
}

Status Navigator::sound() const {
  if (history_->damage()) return *history_->damage();
  return {};
}

Status Navigator::restore_checkpoint(std::size_t i) {
  DEJA_ASSIGN(const Replayer::Point point, checkpointed_point(i));
  DEJA_TRY(history_->restore(ram_at(i)));
  DEJA_TRY(replayer_->restore(point));
  const Step step = checkpoints_.point(i).step;
  if (position() != step) return make_error("its state is that of step {}", position());
  return {};
}

Result<bool> Navigator::go_to_checkpoint(Step step) {
  const std::size_t n = checkpoints_.count_up_to(step);
  if (n == 0 || checkpoints_.point(n - 1).step != step || !ram_at(n - 1).digest) return false;
  DEJA_TRY(restore_checkpoint(n - 1));
  DEJA_TRY(load_all());
  return true;
}

Result<CheckpointWriter::Continuation> Navigator::continuation() {
  CheckpointWriter::Continuation from;
  RamHistory::SinceBase since = history_->since_base();
  from.frames = std::move(since.frames);
  from.disks.resize(machine().drive_count());
  if (since.base == 0) return from;
  from.reader = &checkpoints_;
  from.checkpoint = since.base - 1;
  if (!checkpoints_.is_unbroken(from.checkpoint)) return make_error("{}", checkpoints_.problem());
  DEJA_ASSIGN(from.disks, disks_->disks_at(from.checkpoint));
  return from;
}

Status Navigator::jump_near(Step target) {
  DEJA_CHECK(snapshots_.begin()->first == first(),
             "the first snapshot is at step {}, the recording's first at {}", snapshots_.begin()->first,
             first());
  DEJA_CHECK(target >= first(), "step {} of a recording that begins at {}", target, first());
  bool usable = !replayer_->divergence() && sound().ok() && position() <= target && position() >= first();
  if (usable && target - position() < kWorthAJump) return {};
  while (true) {
    const auto snapshot = std::prev(snapshots_.upper_bound(target));
    const std::optional<std::size_t> i = sound_checkpoint(target);
    const bool from_disk = i && checkpoints_.point(*i).step > snapshot->first;
    const Step start = from_disk ? checkpoints_.point(*i).step : snapshot->first;
    if (usable && start <= position()) return {};
    Status status = from_disk ? restore_checkpoint(*i) : [&]() -> Status {
      DEJA_TRY(history_->restore(snapshot->second.ram));
      return replayer_->restore(snapshot->second.point);
    }();
    if (status) return {};
    usable = false;  // the machine is between two states
    if (from_disk) {
      damaged_[*i] = true;
      log_warn("timeline", "the checkpoint at step {} is damaged: {}; an earlier one is used instead",
               format_count(start), status.error().message);
    } else if (start == first()) {
      return status;
    } else {
      snapshots_.erase(snapshot);  // it leans on a damaged checkpoint
    }
  }
}

void Navigator::take_snapshot() {
  DEJA_CHECK(sound().ok(), "step {}: {}", position(), history_->damage()->message);
  DEJA_CHECK(!replayer_->divergence(), "step {}: {}", position(), replayer_->divergence()->reason);
  Replayer::Point point = replayer_->save();
  snapshots_.insert_or_assign(position(), Snapshot{std::move(point), history_->capture()});
}

void Navigator::thin_snapshots() {
  const Step here = position();
  // Backwards from here, then forwards.
  Step kept = here;
  auto it = snapshots_.upper_bound(here);
  while (it != snapshots_.begin()) {
    --it;
    const Step step = it->first;
    if (step == first()) break;
    if (kept != here && (kept - step) * kDensity < here - step)
      it = snapshots_.erase(it);
    else
      kept = step;
  }
  kept = here;
  for (it = snapshots_.upper_bound(here); it != snapshots_.end();) {
    if (kept != here && (it->first - kept) * kDensity < it->first - here) {
      it = snapshots_.erase(it);
    } else {
      kept = it->first;
      ++it;
    }
  }
  const auto collect = [&] {
    std::vector<const RamHistory::State*> alive;
    for (const auto& [step, s] : snapshots_) alive.push_back(&s.ram);
    history_->free_all_but(alive);
  };
  if (history_->bytes() <= kSnapshotBudget) return;
  collect();
  while (history_->bytes() > kSnapshotBudget && snapshots_.size() > 1) {
    // The farther end goes first.
    const auto low = std::next(snapshots_.begin());
    const auto high = std::prev(snapshots_.end());
    const Step below = here > low->first ? here - low->first : 0;
    const Step above = high->first > here ? high->first - here : 0;
    snapshots_.erase(below >= above ? low : high);
    collect();
  }
}

// Nobody is told of what happens on the way, nor of bytes that change because another time comes.
Status Navigator::unobserved(const std::function<Status()>& f) {
  Engine& engine = machine().engine();
  const ObservationSpec observed = engine.observation().spec();
  const bool observing = !(observed == ObservationSpec{});
  if (observing) engine.observe({});
  Status status = f();
  if (observing) engine.observe(observed);
  return status;
}

Status Navigator::expect_reached(Replayer::Stop stop) const {
  if (stop == Replayer::Stop::log_end)
    return make_error("{}: the log ends at step {}", dir_.string(), format_count(position()));
  if (stop == Replayer::Stop::diverged) {
    const Divergence& d = *replayer_->divergence();
    return make_error(
        "{}: at step {} the replay is not what was recorded: {}; `deja verify` and `deja bisect` tell more",
        dir_.string(), format_count(d.step), d.reason);
  }
  DEJA_CHECK(stop == Replayer::Stop::reached, "nothing is observed, and the replay stopped at step {} for {}",
             position(), static_cast<int>(stop));
  return {};
}

Status Navigator::seek(Step target) {
  DEJA_TRY(check_position(target, steps()));
  return unobserved([&] { return travel(target); });
}

Status Navigator::travel(Step target) {
  Status status = travel_once(target);
  while (!status && !sound() && avoid_damage()) status = travel_once(target);
  return status;
}

// The checkpoint that the present leans on has a page that can neither be read nor made again: it is used no
// more. False: there is none before it.
bool Navigator::avoid_damage() {
  const std::size_t base = history_->base();
  if (base == 0 || snapshots_.begin()->second.ram.base == base) return false;
  if (!damaged_[base - 1])
    log_warn("timeline", "an earlier checkpoint is used instead of that at step {}",
             format_count(checkpoints_.point(base - 1).step));
  damaged_[base - 1] = true;
  std::erase_if(snapshots_, [&](const auto& s) { return s.second.ram.base == base; });
  return true;
}

Status Navigator::travel_once(Step target) {
  DEJA_TRY(jump_near(target));
  while (true) {
    // Down to kFinest in halves, then the rest at once.
    const Step left = target - position();
    const Step next = left > 2 * kFinest ? position() + left / 2 : target;
    DEJA_ASSIGN(const Replayer::Stop stop, replayer_->run_to(next));
    DEJA_TRY(sound());
    DEJA_TRY(expect_reached(stop));
    // Only a log that was made to could lead past it.
    if (position() != next)
      return make_error("{}: the log leads past step {}, to {}: it is damaged", dir_.string(),
                        format_count(next), format_count(position()));
    if (next == target) break;
    take_snapshot();
  }
  bring_to_rest(machine());
  thin_snapshots();
  return {};
}

void Navigator::leave_trail() {
  if (position() - std::prev(snapshots_.upper_bound(position()))->first < kTrail) return;
  take_snapshot();
  thin_snapshots();
}

Result<Replayer::Stop> Navigator::run_to(Step target) {
  while (true) {
    const Step next = std::min(target, position() + kTrail);
    DEJA_ASSIGN(const Replayer::Stop stop, replayer_->run_to(next));
    if (Status status = sound(); !status) {
      avoid_damage();
      return status.error();
    }
    if (stop == Replayer::Stop::reached) leave_trail();
    if (stop != Replayer::Stop::reached || next == target) return stop;
  }
}

Status Navigator::scan_to(Step target) {
  return unobserved([&]() -> Status {
    DEJA_ASSIGN(const Replayer::Stop stop, run_to(target));
    return expect_reached(stop);
  });
}

}  // namespace deja
