// A whole replay, checked against the digests in the log: `deja replay` and `deja verify`.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "inputs/host_clock.h"
#include "inputs/input_source.h"
#include "replay/replayer.h"

namespace deja {

struct ReplayRequest {
  std::filesystem::path dir;
  EngineOptions engine;
  std::string to;         // position to stop at; empty: the end
  bool realtime = false;  // at the pace of virtual time
  // For a report of digests that differ: text about the recorder's state there. May be empty.
  std::function<std::string(const Divergence&, Machine& replayed)> compare;
};

struct ReplayReport {
  std::optional<Divergence> divergence;
  std::string divergence_report;  // many lines
  // What a user should know about a sound recording that was not ended in order.
  std::string note;
  // The recording is damaged: what was replayed is of its intact part.
  std::optional<Error> damage;
  Step steps = 0;
  u64 instructions = 0;
  u64 digests = 0;
  u64 host_ns = 0;
  EngineCounters counters;
};

// `output` gets what the guest sends on COM1. An error: the recording cannot be replayed, or not as far as
// asked.
Result<ReplayReport> run_replay(const ReplayRequest& request, SerialOutput& output, HostClock& clock);

// "--chaos-engine 7 --engine no-link": what makes another command use the same engine; empty for the default.
std::string engine_arguments(const EngineOptions& options);

}  // namespace deja
