// A recording opened for looking at one of its moments, as several verbs do.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "cli/engine_options.h"
#include "timeline/navigator.h"

namespace deja {

// The one way in which a verb opens one: the user is told if it is damaged or was not ended in order.
Result<std::unique_ptr<Navigator>> open_recording(const std::filesystem::path& dir,
                                                  const EngineOptions& engine);
// The same of a `recording` as the user names it.
Result<std::unique_ptr<Navigator>> open_recording(const std::string& recording,
                                                  const EngineArguments& engine);
// For verbs that take a recording as it is: the user is told if its log is damaged.
void note_damage_of(const std::filesystem::path& dir);
// Goes to the moment that `at` names in any form of docs/time-travel.md; its step.
Result<Step> go_to(Navigator& navigator, const std::string& at);

}  // namespace deja
