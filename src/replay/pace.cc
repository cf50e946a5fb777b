#include "replay/pace.h"

#include <algorithm>
#include <utility>

namespace deja {
namespace {

constexpr u64 kLeadShare = 8;

}  // namespace

void Pace::begin(VtimeNs now, u64 before_host_ns) {
  const u64 host = clock_.monotonic_ns();
  started_ns_ = host - before_host_ns;
  pace_ns_ = static_cast<i64>(host - now);
}

VtimeNs Pace::now() const {
  const i64 ns = static_cast<i64>(clock_.monotonic_ns()) - pace_ns_ + lead_aside_ns_;
  return ns > 0 ? static_cast<VtimeNs>(ns) : 0;
}

u64 Pace::host_time_of(VtimeNs deadline) const {
  return static_cast<u64>(pace_ns_ - lead_aside_ns_ + static_cast<i64>(deadline));
}

void Pace::fall_asleep(Step step, VtimeNs now, u64 sleep_ns) {
  if (std::exchange(asleep_since_, step) == step) return;
  const i64 lead = static_cast<i64>(now) - (static_cast<i64>(clock_.monotonic_ns()) - pace_ns_);
  lead_aside_ns_ = std::max<i64>(0, lead - static_cast<i64>(sleep_ns / kLeadShare));
}

void Pace::stood_still_since(u64 monotonic_ns) {
  pace_ns_ += static_cast<i64>(clock_.monotonic_ns() - monotonic_ns);
}

}  // namespace deja
