// The engine's counters, as `--stats` and `deja stats` show them.
#pragma once

#include <string>

#include "execute/engine_counters.h"

namespace deja {

// The engine's counters after a run, and the length of that run.
struct EngineRun {
  const EngineCounters& counters;
  u64 instructions = 0;
  u64 host_ns = 0;
};

std::string engine_text(const EngineRun& run);  // lines
std::string engine_json(const EngineRun& run);  // one object

}  // namespace deja
