// Narrows a divergence to one step, by running two machines side by side from one log and comparing their
// digests.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "base/result.h"
#include "execute/engine.h"

namespace deja {

struct BisectRequest {
  std::filesystem::path dir;
  EngineOptions reference, other;
  Step from = 0;         // here both are known to agree
  Step to = kNeverStep;  // not further than this; kNeverStep: the end of the recording
  std::function<void(const std::string&)> progress;  // a line now and then; may be empty
};

struct BisectReport {
  bool differ = false;
  Step step = 0;     // the first step after which the machines differ; else the last one that was compared
  std::string text;  // what was executed there, and what differs: reference first
};

Result<BisectReport> run_bisect(const BisectRequest& request);

}  // namespace deja
