// A recording opened for looking at one of its moments, as several verbs do.
#pragma once

#include <memory>
#include <string>

#include "cli/engine_options.h"
#include "timeline/navigator.h"

namespace deja {

// `recording` as the user names it.
Result<std::unique_ptr<Navigator>> open_recording(const std::string& recording,
                                                  const EngineArguments& engine);
// Goes to the moment that `at` names in any form of docs/time-travel.md; its step.
Result<Step> go_to(Navigator& navigator, const std::string& at);

}  // namespace deja
