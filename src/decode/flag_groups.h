// Which instructions leave status flags undefined.
#pragma once

#include "decode/insn.h"

namespace deja {

// Instructions that leave status flags undefined, grouped by what a CPU maker decides as one
// (docs/undefined-flags.md). A set of groups is a mask of 1 << group.
enum class FlagGroup : u8 {
  logic,
  shift,
  rotate,
  double_shift,
  multiply,
  divide,
  bit_test,
  bit_scan,
  count,
  bmi,
  none
};
inline constexpr unsigned kFlagGroups = static_cast<unsigned>(FlagGroup::none);
FlagGroup flag_group(ZydisMnemonic mnemonic);

}  // namespace deja
