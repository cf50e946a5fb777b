// The other end of a serial line, as spelled on the command line.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace deja {

struct SerialConfig {
  enum class Kind { none, stdio, file, unix_socket };
  Kind kind = Kind::none;
  std::string path;  // file, unix_socket
  bool wait =
      false;  // unix_socket: do not start before a client has connected (QEMU's server without nowait)

  bool operator==(const SerialConfig&) const = default;
};

// QEMU's spellings: stdio, mon:stdio, none, null, file:PATH,
// unix:PATH[,server[=on|off]][,nowait][,wait[=on|off]]. The monitor is always reachable on stdio (Ctrl-A c),
// so mon:stdio is the same as stdio.
Result<SerialConfig> parse_serial(std::string_view text);
// The canonical spelling, as written to a manifest.
std::string to_string(const SerialConfig& config);

}  // namespace deja
