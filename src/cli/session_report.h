// How a live session's end is told, and what exit status it has.
#pragma once

#include "replay/record_session.h"

namespace deja {

// Prints notes to standard error. Status: of the guest's debug exit; else 0, or 1 when the host or the
// guest's start failed.
int report_session(const SessionReport& report, bool stats);

}  // namespace deja
