// The connection of the network card, as spelled on the command line.
#pragma once

#include <netinet/in.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace deja {

// Connections to a port of the host are led to a port of the guest. Both addresses are of one family.
struct HostForward {
  bool udp = false;
  bool ipv6 = false;
  std::string host_address;  // empty: 127.0.0.1 or ::1
  unsigned host_port = 0;
  std::string guest_address;  // empty: the guest's, from DHCP or chosen by itself (IPv6)
  unsigned guest_port = 0;
  bool operator==(const HostForward&) const = default;
};

// The guest's network and the addresses of the hosts in it. Defaults are QEMU's.
struct Ipv4Net {
  in_addr network, mask, host, dhcp_start, dns;
};
struct Ipv6Net {
  bool enabled = false;
  in6_addr prefix;
  u8 prefix_length = 64;
  in6_addr host, dns;
};

struct NicConfig {
  enum class Kind { none, user };
  Kind kind = Kind::none;
  bool restricted = false;  // the guest reaches nothing but what is forwarded
  std::string mac;          // "52:54:00:12:34:56"
  std::vector<HostForward> forwards;
  Ipv4Net ipv4 = {};
  Ipv6Net ipv6 = {};
};

// QEMU's spelling: none, or
// user[,hostfwd=tcp|udp:[ADDR]:PORT-[ADDR]:PORT]…[,restrict=on|off][,mac=…][,model=…]
//     [,net=ADDR[/MASK]][,host=ADDR][,dhcpstart=ADDR][,dns=ADDR]
//     [,ipv6=on|off][,ipv6-net=ADDR[/64]][,ipv6-host=ADDR][,ipv6-dns=ADDR].
// An IPv6 address in hostfwd= stands in brackets. Unlike in QEMU, a forwarded port without an address listens
// on the loopback address only, and there is no IPv6 unless an option asks for it.
Result<NicConfig> parse_nic(std::string_view text);

}  // namespace deja
