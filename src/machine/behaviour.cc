#include "machine/behaviour.h"

namespace deja {

std::string_view why_behaviour_differs(u32 recorded) {
  if (recorded > kMachineBehaviour) return "it was made by a newer deja";
  if (recorded == 9)
    return "since then, a REP string instruction no longer runs past the end of a turn or the moment of a "
           "timer";
  return "what its guest could see of the machine has changed since then";
}

}  // namespace deja
