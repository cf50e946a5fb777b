// The command line as users of QEMU type it: `-kernel K -append "…" -nographic`.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "base/result.h"

namespace deja {

// Rewrites QEMU's single-dash spellings to ours; values of options, of QEMU's and of those
// `with_values`, are left alone. Options without a meaning
// here are dropped; where a user may have expected an effect, a line goes to `notes`.
Result<std::vector<std::string>> from_qemu_spelling(const std::vector<std::string>& arguments,
                                                    const std::set<std::string>& with_values,
                                                    std::vector<std::string>* notes);

}  // namespace deja
