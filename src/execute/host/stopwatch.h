// Host time spent, for EngineCounters alone: nothing that runs may depend on it.
#pragma once

#include <ctime>

#include "base/types.h"

namespace deja {

// Adds the host's time from construction to destruction.
class Stopwatch {
 public:
  explicit Stopwatch(u64* total_ns) : total_ns_(total_ns), begin_ns_(now()) {}
  ~Stopwatch() { *total_ns_ += now() - begin_ns_; }
  Stopwatch(const Stopwatch&) = delete;

 private:
  static u64 now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<u64>(t.tv_sec) * 1'000'000'000 + static_cast<u64>(t.tv_nsec);
  }
  u64* total_ns_;
  u64 begin_ns_;
};

}  // namespace deja
