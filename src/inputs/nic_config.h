// What the network card is connected to, as spelled on the command line.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace deja {

// Connections to a port of the host are led to a port of the guest.
struct HostForward {
  bool udp = false;
  std::string host_address;  // dotted; empty: 127.0.0.1
  unsigned host_port = 0;
  std::string guest_address;  // dotted; empty: the one that DHCP gives
  unsigned guest_port = 0;
  bool operator==(const HostForward&) const = default;
};

struct NicConfig {
  enum class Kind { none, user };
  Kind kind = Kind::none;
  bool restricted = false;  // the guest reaches nothing but what is forwarded
  std::string mac;          // "52:54:00:12:34:56"
  std::vector<HostForward> forwards;
  bool operator==(const NicConfig&) const = default;
};

// QEMU's spelling: none, or
// user[,hostfwd=tcp|udp:[ADDR]:PORT-[ADDR]:PORT]…[,restrict=on|off][,mac=…][,model=…]. Unlike in QEMU, a
// forwarded port without an address listens on 127.0.0.1 only.
Result<NicConfig> parse_nic(std::string_view text);

}  // namespace deja
