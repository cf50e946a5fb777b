#include "replay/recording_schedule.h"

#include <cstdlib>

namespace deja {
namespace {

constexpr u64 kProgressNs = 1'000'000'000;
constexpr i64 kDateSetNs = 500'000'000;
constexpr unsigned kSoon = 8;  // the part of an interval after which a checkpoint that failed is tried again

}  // namespace

void RecordingSchedule::begin(Step now) {
  const u64 host = clock_.monotonic_ns();
  next_progress_ns_ = host + kProgressNs;
  next_digest_ = next_multiple(now, options_.digest_interval);
  last_checkpoint_ = now;
  if (options_.checkpoint_interval) {
    next_checkpoint_ = next_multiple(now, options_.checkpoint_interval);
    if (options_.checkpoint_interval_ns) next_checkpoint_ns_ = host;
  }
  wall_minus_monotonic_ = clock_.wall_unix_ns() - static_cast<i64>(host);
}

void RecordingSchedule::end() {
  next_digest_ = next_checkpoint_ = kNeverStep;
  next_progress_ns_ = next_checkpoint_ns_ = kNeverNs;
}

void RecordingSchedule::checkpoint_tried(Step now, bool taken) {
  if (taken) last_checkpoint_ = now;
  // Where digests are taken as well, so that the bookkeeping of writes is done once for both.
  const Step interval = options_.checkpoint_interval;
  next_checkpoint_ = taken ? next_multiple(now, interval) : now + interval / kSoon + 1;
  if (const u64 ns = options_.checkpoint_interval_ns)
    next_checkpoint_ns_ = clock_.monotonic_ns() + (taken ? ns : ns / kSoon);
}

bool RecordingSchedule::takes_progress() {
  const u64 now = clock_.monotonic_ns();
  if (now < next_progress_ns_) return false;
  next_progress_ns_ = now + kProgressNs;
  return true;
}

std::optional<i64> RecordingSchedule::takes_date_set() {
  const i64 date = clock_.wall_unix_ns();
  const i64 difference = date - static_cast<i64>(clock_.monotonic_ns());
  if (std::llabs(difference - wall_minus_monotonic_) <= kDateSetNs) return std::nullopt;
  wall_minus_monotonic_ = difference;
  return date;
}

}  // namespace deja
