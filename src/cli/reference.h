// Manual pages and shell completion, made of what the command line declares: the same source as --help, so
// neither can say something else.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "cli/options/command.h"

namespace deja {

// In man(7)'s macros: deja-VERB(1), and deja(1) for the program itself. `version` stands at the foot of the
// page.
std::string manual_page(const Command& program, const Command& verb, std::string_view version);
std::string program_manual_page(const Command& program, std::string_view version);

// What bash, zsh or fish source to complete verbs, options, their values, and names of recordings.
std::string bash_completion(const Command& program);
std::string zsh_completion(const Command& program);
std::string fish_completion(const Command& program);

}  // namespace deja
