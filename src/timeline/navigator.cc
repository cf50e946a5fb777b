#include "timeline/navigator.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "replay/apply.h"
#include "replay/position.h"

namespace deja {
namespace {

constexpr std::array<u8, kPageSize> kZeros{};

// Makes a page what it was, touching no more than what differs: translated code and cached translations that
// were made from the rest stay good.
void put_page(GuestRam& ram, u32 frame, const u8* content) {
  const u8* now = ram.host(Gpa(u64{frame} << kPageShift));
  if (std::memcmp(now, content, kPageSize) == 0) return;
  u64 from = 0, to = kPageSize;
  while (now[from] == content[from]) ++from;
  while (now[to - 1] == content[to - 1]) --to;
  ram.write(Gpa((u64{frame} << kPageShift) + from), content + from, to - from);
}

}  // namespace

Result<std::unique_ptr<Navigator>> Navigator::open(const std::filesystem::path& dir,
                                                   const EngineOptions& engine) {
  std::unique_ptr<Navigator> navigator(new Navigator(dir));
  DEJA_TRY(navigator->init(engine));
  return navigator;
}

Status Navigator::init(const EngineOptions& engine) {
  {
    DEJA_ASSIGN(Recording recording, Recording::open(dir_));
    survey_ = survey_log(recording);
  }
  DEJA_ASSIGN(replayer_, Replayer::open(dir_, engine));
  keep_power_on_pages();
  power_on_ = replayer_->save();
  return {};
}

Navigator::~Navigator() {
  if (changed_) machine().ram().detach(changed_.get());
}

void Navigator::keep_power_on_pages() {
  GuestRam& ram = machine().ram();
  changed_ = std::make_unique<WriteSet>(ram.frames());
  ram.attach(changed_.get());
  ram.collect_writes();  // RAM starts as zeros: what the guest was loaded into is all there is
  power_on_index_.resize(ram.frames());
  power_on_pages_.reserve(changed_->frames().size() * kPageSize);
  for (const u32 frame : changed_->frames()) {
    const u8* page = ram.host(Gpa(u64{frame} << kPageShift));
    power_on_pages_.insert(power_on_pages_.end(), page, page + kPageSize);
    power_on_index_[frame] = static_cast<u32>(power_on_pages_.size() / kPageSize);
  }
  changed_->clear();
}

Status Navigator::back_to_power_on() {
  GuestRam& ram = machine().ram();
  ram.collect_writes();
  const std::vector<u32> changed = changed_->frames();
  changed_->clear();
  for (const u32 frame : changed) {
    const u32 index = power_on_index_[frame];
    put_page(ram, frame, index ? &power_on_pages_[(index - u64{1}) * kPageSize] : kZeros.data());
  }
  return replayer_->restore(power_on_);
}

Step Navigator::segment_start(Step) const { return 0; }

Status Navigator::seek(Step target) {
  if (target > last())
    return make_error("step {} is behind the end of the recording, which is step {}", format_count(target),
                      format_count(last()));
  // Nobody is told of what happens on the way, nor of bytes that change because another time comes.
  Engine& engine = machine().engine();
  const ObservationSpec observed = engine.observation().spec();
  const bool observing = !(observed == ObservationSpec{});
  if (observing) engine.observe({});
  const Status status = travel(target);
  if (observing) engine.observe(observed);
  return status;
}

Status Navigator::travel(Step target) {
  if (target < position() || replayer_->divergence()) DEJA_TRY(back_to_power_on());
  DEJA_ASSIGN(const Replayer::Stop stop, run_to(target));
  if (stop == Replayer::Stop::reached) {
    bring_to_rest(machine());
    return {};
  }
  if (stop == Replayer::Stop::log_end)
    return make_error("{}: the log ends at step {}", dir_.string(), format_count(position()));
  DEJA_CHECK(stop == Replayer::Stop::diverged);
  return make_error(
      "{}: at step {} the replay is not what was recorded: {}; `deja verify` and `deja bisect` tell more",
      dir_.string(), format_count(replayer_->divergence()->step), replayer_->divergence()->reason);
}

Result<Replayer::Stop> Navigator::run_to(Step target) { return replayer_->run_to(target); }

}  // namespace deja
