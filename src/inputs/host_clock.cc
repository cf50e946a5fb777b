#include "inputs/host_clock.h"

#include <sys/random.h>

#include <cerrno>
#include <ctime>

#include "base/host_limits.h"

namespace deja {
namespace {

constexpr u64 kSecond = 1'000'000'000;

i64 read_clock(clockid_t id) {
  timespec t{};
  DEJA_CHECK(::clock_gettime(id, &t) == 0);
  return static_cast<i64>(t.tv_sec) * static_cast<i64>(kSecond) + t.tv_nsec;
}

}  // namespace

u64 RealHostClock::monotonic_ns() { return static_cast<u64>(read_clock(CLOCK_MONOTONIC)); }
i64 RealHostClock::wall_unix_ns() { return read_clock(CLOCK_REALTIME); }

void RealHostClock::sleep_until(u64 deadline_ns) {
  const timespec t{static_cast<time_t>(deadline_ns / kSecond), static_cast<long>(deadline_ns % kSecond)};
  while (::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, nullptr) == EINTR) {
  }
}

Status host_entropy(std::span<u8> out) {
  std::size_t have = 0;
  while (have < out.size()) {
    const ssize_t n = ::getrandom(out.data() + have, out.size() - have, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return make_error("cannot get random bytes from the host: {}", host_error(errno));
    have += static_cast<std::size_t>(n);
  }
  return {};
}

}  // namespace deja
