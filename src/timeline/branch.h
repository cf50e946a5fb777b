// Going on from a moment of the past as a running machine: `deja live`.
#pragma once

#include "replay/record_session.h"
#include "timeline/navigator.h"

namespace deja {

// What a session needs to go on from where `nav` stands, which it must not leave meanwhile.
Result<BranchPoint> branch_here(Navigator& nav);

}  // namespace deja
