// All that can enter the machine from outside, as plain values. The session stamps each with the step at
// which it reaches the device, writes it to the event log, and applies it; replay takes the same values from
// the log.
#pragma once

#include <string>
#include <variant>

#include "base/types.h"

namespace deja::input {

// Bytes arriving on the receive line of serial port `port` (0 = COM1, 1 = the virtio console).
struct SerialBytes {
  u8 port = 0;
  std::string bytes;
  bool operator==(const SerialBytes&) const = default;
};

// A frame arriving at network card `nic` (0 is the only one), without its frame check sequence.
struct NetFrame {
  u8 nic = 0;
  std::string bytes;
  bool operator==(const NetFrame&) const = default;
};

// A BREAK condition on the line; Linux takes it as the start of a magic SysRq sequence.
struct SerialBreak {
  u8 port = 0;
  bool operator==(const SerialBreak&) const = default;
};

// The ACPI power button, the NMI button and the reset button of the case.
struct PowerButton {
  bool operator==(const PowerButton&) const = default;
};
struct NmiButton {
  bool operator==(const NmiButton&) const = default;
};
struct ResetButton {
  bool operator==(const ResetButton&) const = default;
};

// A person stopped the machine, or let it go on. Guest time stands still in between.
struct Pause {
  bool operator==(const Pause&) const = default;
};
struct Resume {
  bool operator==(const Resume&) const = default;
};

// A note that a person attaches to this moment.
struct Mark {
  std::string text;
  bool operator==(const Mark&) const = default;
};

// Keys pressed and released, as the bytes that the keyboard sends for them (scan code set 2).
struct Keys {
  std::string codes;
  bool operator==(const Keys&) const = default;
};

// Not part of the machine's history: asks the session to end.
struct Quit {
  bool by_signal = false;
  std::string reason;  // "Ctrl-A x", "monitor", "SIGTERM"…
  bool operator==(const Quit&) const = default;
};

}  // namespace deja::input

namespace deja {

using HostInput = std::variant<input::SerialBytes, input::SerialBreak, input::PowerButton, input::NmiButton,
                               input::ResetButton, input::Pause, input::Resume, input::Mark, input::NetFrame,
                               input::Keys, input::Quit>;

}  // namespace deja
