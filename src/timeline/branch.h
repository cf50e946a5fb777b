// Going on from a moment of the past as a running machine: `deja live`.
#pragma once

#include "replay/record_session.h"
#include "timeline/navigator.h"

namespace deja {

// What a session needs to go on from where `nav` stands, which it must not leave meanwhile.
Result<BranchPoint> branch_here(Navigator& nav);

// What the serial lines of such a session are connected to, by port.
struct BranchSerial {
  std::vector<SerialConfig> lines;
  std::vector<std::string> notes;  // for the user: what is not as it was in the recording
};
// `asked`: by port, as for `--serial`. Without it the lines are as they were where that was the terminal or
// nothing. A recording may come from anybody: files and sockets that it names are not opened, and the first
// line that had one is at the terminal instead, unless another one is.
Result<BranchSerial> branch_serial(const MachineSpec& machine, const std::vector<std::string>& asked);

}  // namespace deja
