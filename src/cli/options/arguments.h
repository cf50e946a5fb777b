// The command line as users of QEMU type it: `-kernel K -append "…" -nographic`.
#pragma once

#include <string>
#include <vector>

namespace deja {

// Rewrites QEMU's single-dash spellings to ours; values of options are left alone. Options without a meaning
// here are dropped; where a user may have expected an effect, a line goes to `notes`.
std::vector<std::string> from_qemu_spelling(const std::vector<std::string>& arguments,
                                            std::vector<std::string>* notes);

}  // namespace deja
