// A recording opened for looking at one of its moments, as several verbs do.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "cli/options/engine_options.h"
#include "timeline/navigator.h"

namespace deja {

// Verbs open recordings in this way only: the user is told if one is damaged or was not ended in order.
Result<std::unique_ptr<Navigator>> open_recording(const std::filesystem::path& dir,
                                                  const EngineOptions& engine);
// The same for a `recording` as the user names it.
Result<std::unique_ptr<Navigator>> open_recording(const std::string& recording,
                                                  const EngineArguments& engine);
// Used by verbs that take a recording as it is: the user is told if its log is damaged.
void note_damage_of(const std::filesystem::path& dir);
// Goes to the moment that `at` names in any form of docs/time-travel.md; its step.
Result<Step> go_to(Navigator& navigator, const std::string& at);

}  // namespace deja
