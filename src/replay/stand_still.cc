#include "replay/stand_still.h"

#include <utility>

namespace deja {
namespace {

constexpr u64 kRetryNs = 1'000'000'000;  // between two times that a host which refused is asked

}  // namespace

bool StandStill::pause() {
  if (paused_) return false;
  if (!in_trouble_) since_ns_ = clock_.monotonic_ns();
  return paused_ = true;
}

bool StandStill::resume() { return std::exchange(paused_, false); }

bool StandStill::begin_trouble() {
  if (in_trouble_) return false;
  if (!paused_) since_ns_ = clock_.monotonic_ns();
  next_retry_ns_ = clock_.monotonic_ns() + kRetryNs;
  return in_trouble_ = true;
}

bool StandStill::takes_retry() {
  const u64 now = clock_.monotonic_ns();
  if (!in_trouble_ || now < next_retry_ns_) return false;
  next_retry_ns_ = now + kRetryNs;
  return true;
}

}  // namespace deja
