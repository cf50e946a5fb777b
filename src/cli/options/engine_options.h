// Options about the engine and about what is printed, for every verb that runs a machine. None of them can
// change what the guest sees.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/options/command.h"
#include "execute/engine.h"

namespace deja {

struct EngineArguments {
  std::string engine;
  u64 chaos_seed = 0;
  CommandOption* chaos = nullptr;
  std::string log;
  std::string sandbox = "on";
  bool stats = false;
  bool perf_map = false;

  void add_to(Command& app);
  // Also turns on logging.
  Result<EngineOptions> apply() const;
};

// "no-link,max-insns=1" into `options`; an error lists what there is.
Status parse_engine_list(std::string_view text, EngineOptions* options);

}  // namespace deja
