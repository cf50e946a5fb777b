// Host time and host entropy. Nothing below the sessions may look at either (docs/determinism.md, rule 2).
#pragma once

#include <span>

#include "base/result.h"
#include "base/types.h"

namespace deja {

class HostClock {
 public:
  virtual ~HostClock() = default;
  // CLOCK_MONOTONIC: never steps back, not related to the date.
  virtual u64 monotonic_ns() = 0;
  // CLOCK_REALTIME: nanoseconds since 1970-01-01 UTC; may be set back or forth by the host.
  virtual i64 wall_unix_ns() = 0;
  i64 wall_unix_seconds() {
    const i64 ns = wall_unix_ns();
    return ns / 1'000'000'000 - (ns % 1'000'000'000 < 0 ? 1 : 0);
  }
  // Returns when monotonic_ns() >= deadline_ns. To be woken by input as well, use InputSource::wait_until.
  virtual void sleep_until(u64 deadline_ns) = 0;
};

class RealHostClock : public HostClock {
 public:
  u64 monotonic_ns() override;
  i64 wall_unix_ns() override;
  void sleep_until(u64 deadline_ns) override;
};

// A clock for tests: it moves only when told, or by sleeping.
class FakeHostClock : public HostClock {
 public:
  u64 monotonic_ns() override { return now_ns; }
  i64 wall_unix_ns() override { return wall_base_ns + static_cast<i64>(now_ns); }
  void sleep_until(u64 deadline_ns) override {
    if (deadline_ns > now_ns) now_ns = deadline_ns;
  }

  u64 now_ns = 0;
  i64 wall_base_ns = 0;
};

// Random bytes of the host's kernel, for the seed that a recording hands to its guest.
Status host_entropy(std::span<u8> out);

}  // namespace deja
