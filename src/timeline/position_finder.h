// Places in a recording, in the words of users. One grammar for every command:
//
//   3,214,567,890        a step, with or without separators; the form in which positions are printed
//   start  end  50%      of the steps on record
//   +2s  -500ms          of the guest's time, from where one is; where one is nowhere, + counts from the
//                        start and - from the end. Units: ns us ms s min
//   2026-11-22 15:30:12  the host's date (UTC) while it was recorded, or only 15:30:12; good to about a
//   second serial:"text"        when the last byte of that text was sent on COM1 panic                when a
//   Linux guest said that its kernel panics mark:NAME            a note that was made while recording
//   event:17             the 17th event of the log, as `deja dump` lists them
//
// What occurs several times must be told apart: serial:"login"#2 is the second one.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "timeline/navigator.h"

namespace deja {

// The state at the step found includes what was asked for. Moves `nav` anywhere, unobserved. `here`: where
// relative times count from.
Result<Step> find_position(Navigator& nav, std::string_view text, std::optional<Step> here = {});

// The same for commands that need no machine for anything else: it is built only if finding out needs one.
Result<Step> find_position(const std::filesystem::path& dir, const EngineOptions& engine,
                           std::string_view text);

// "step 1,525,630,269 (99.97%), 4.209895657 s of guest time, vCPU 0 kernel at 0xffffffffc0201019": the
// present moment, as that vCPU sees it.
std::string describe_moment(const Navigator& nav, unsigned vcpu);

// The first step at which `time` has passed since power-on.
Result<Step> first_step_at(Navigator& nav, VtimeNs time);

}  // namespace deja
