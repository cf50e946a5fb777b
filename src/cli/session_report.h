// What `run` and `record` do once their options are known, and how a live session's end is told.
#pragma once

#include "cli/options/engine_options.h"
#include "cli/options/machine_options.h"

#include "replay/record_session.h"

namespace deja {

// Runs the session that the options describe; how it is recorded is in `request`. The
// exit status: of the guest's debug exit; else 0, or 1 when the host or the guest's start failed.
Result<int> run_and_report(const MachineOptions& machine, const EngineArguments& engine,
                           SessionRequest request);

// Prints notes about a session that has ended; returns the exit status.
int report_session(const SessionReport& report, bool stats);

}  // namespace deja
