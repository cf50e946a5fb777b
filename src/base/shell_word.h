// Text that a message shows as a word of a command, for people who copy the command into a shell.
#pragma once

#include <string>
#include <string_view>

namespace deja {

// `text` as one word of POSIX shells: in quotes when it would be something else without.
std::string shell_word(std::string_view text);

}  // namespace deja
