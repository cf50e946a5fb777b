#include "machine/behaviour.h"

namespace deja {
namespace {

// Why a version before `oldest` is not there any more. The versions are listed in docs/determinism.md,
// section 7.
std::string_view why_too_old(u32 version) {
  if (version == 9)
    return "since then, a REP string instruction no longer runs past the end of a turn or the moment of a "
           "timer";
  return "what its guest could see of the machine has changed since then";
}

}  // namespace

std::string to_string(BehaviourRange range) {
  return range.oldest == range.newest ? fmt::format("{}", range.newest)
                                      : fmt::format("{} to {}", range.oldest, range.newest);
}

Status check_behaviour(u32 version, BehaviourRange range) {
  if (version >= range.oldest && version <= range.newest) return {};
  return make_error("version {} of the machine's behaviour, and this deja has {}: {}", version,
                    to_string(range),
                    version > range.newest ? "it was made by a newer deja" : why_too_old(version));
}

}  // namespace deja
