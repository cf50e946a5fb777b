#include "inputs/nic_config.h"

#include "base/parse_number.h"

#include <arpa/inet.h>

#include <bit>
#include <cstring>
#include <map>

namespace deja {
namespace {

constexpr std::string_view kDefaultMac = "52:54:00:12:34:56";
constexpr std::string_view kDefaultNet = "10.0.2.0/24", kDefaultIpv6Net = "fec0::/64";
// Where QEMU puts the router, the first address of DHCP and the name server, from the network's start.
constexpr u32 kHost = 0x0202, kDhcpStart = 0x020f, kDns = 0x0203;
constexpr u8 kIpv6Host = 2, kIpv6Dns = 3;
// The only one with which guests give themselves addresses (RFC 4862 section 5.5.3 d, RFC 2464 section 5).
constexpr unsigned kIpv6PrefixBits = 64;

bool is_mac(std::string_view text) {
  if (text.size() != 17) return false;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (i % 3 == 2 ? text[i] != ':' : !std::isxdigit(static_cast<unsigned char>(text[i]))) return false;
  return true;
}

bool parse_ipv4(std::string_view text, in_addr* out) {
  return ::inet_pton(AF_INET, std::string(text).c_str(), out) == 1;
}
bool parse_ipv6(std::string_view text, in6_addr* out) {
  return ::inet_pton(AF_INET6, std::string(text).c_str(), out) == 1;
}

std::string to_text(in_addr address) {
  char text[INET_ADDRSTRLEN];
  return ::inet_ntop(AF_INET, &address, text, sizeof text);
}
std::string to_text(const in6_addr& address) {
  char text[INET6_ADDRSTRLEN];
  return ::inet_ntop(AF_INET6, &address, text, sizeof text);
}

// --- forwarding

// [ADDR]:PORT, where ADDR is empty, dotted, or of IPv6 in brackets.
struct ForwardSide {
  std::string address;
  bool ipv6 = false;
  unsigned port = 0;
};
bool parse_side(std::string_view text, ForwardSide* side) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return false;
  const std::optional<unsigned> port = parse_number_within(text.substr(colon + 1), 1u, 65535u);
  if (!port) return false;
  side->port = *port;
  std::string_view address = text.substr(0, colon);
  side->ipv6 = address.starts_with('[') && address.ends_with(']');
  if (side->ipv6) address = address.substr(1, address.size() - 2);
  side->address = address;
  return true;
}

// tcp:[ADDR]:PORT-[ADDR]:PORT
Result<HostForward> parse_forward(std::string_view text) {
  const auto bad = [&] {
    return make_error(
        "-nic hostfwd={}: write for example hostfwd=tcp::2222-:22 (host's port 2222 to the guest's 22), or "
        "hostfwd=tcp:[::1]:2222-:22 for IPv6",
        text);
  };
  HostForward f;
  std::string_view rest = text;
  if (rest.starts_with("tcp:"))
    rest.remove_prefix(4);
  else if (rest.starts_with("udp:"))
    f.udp = true, rest.remove_prefix(4);
  else if (rest.starts_with(":"))
    rest.remove_prefix(1);
  else
    return bad();
  const auto dash = rest.find('-');
  if (dash == std::string_view::npos) return bad();
  ForwardSide host, guest;
  if (!parse_side(rest.substr(0, dash), &host) || !parse_side(rest.substr(dash + 1), &guest)) return bad();
  f.ipv6 = host.ipv6 || guest.ipv6;
  for (const ForwardSide* side : {&host, &guest}) {
    in_addr ipv4;
    in6_addr ipv6;
    if (side->address.empty()) continue;
    if (side->ipv6 != f.ipv6)
      return make_error(
          "-nic hostfwd={}: one address is of IPv6 and the other is not; both have to be of one family",
          text);
    if (f.ipv6 ? !parse_ipv6(side->address, &ipv6) : !parse_ipv4(side->address, &ipv4))
      return make_error("-nic hostfwd={}: '{}' is not an address of {}", text, side->address,
                        f.ipv6 ? "IPv6" : "IPv4 (one of IPv6 stands in brackets)");
  }
  f.host_address = host.address, f.host_port = host.port;
  f.guest_address = guest.address, f.guest_port = guest.port;
  return f;
}

// --- the guest's network

using Values = std::map<std::string_view, std::string_view>;

// The mask that belongs to an address by its class, or by what it is set aside for.
u32 usual_mask(u32 address) {
  if (!(address & 0x80000000)) return 0xff000000;
  if ((address & 0xfff00000) == 0xac100000) return 0xfff00000;  // 172.16.0.0/12
  if ((address & 0xc0000000) == 0x80000000) return 0xffff0000;
  if ((address & 0xffff0000) == 0xc0a80000) return 0xffff0000;  // 192.168.0.0/16
  return 0xffffff00;
}

bool parse_mask(std::string_view text, u32* mask) {
  in_addr dotted;
  if (const std::optional<unsigned> bits = parse_number_within(text, 4u, 30u)) {
    *mask = ~u32{0} << (32 - *bits);
    return true;
  }
  if (!parse_ipv4(text, &dotted)) return false;
  *mask = ntohl(dotted.s_addr);
  const unsigned ones = static_cast<unsigned>(std::countl_one(*mask));
  return ones >= 4 && ones <= 30 && *mask == ~u32{0} << (32 - ones);
}

Status set_ipv4(const Values& values, Ipv4Net* net) {
  const auto given = values.find("net");
  const std::string_view text = given == values.end() ? kDefaultNet : given->second;
  const auto slash = text.find('/');
  in_addr address;
  if (!parse_ipv4(text.substr(0, slash), &address))
    return make_error("-nic net={}: write for example net=192.168.76.0/24", text);
  u32 mask = usual_mask(ntohl(address.s_addr));
  if (slash != std::string_view::npos && !parse_mask(text.substr(slash + 1), &mask))
    return make_error("-nic net={}: the mask is a number of bits from 4 to 30, or dotted", text);
  const u32 network = ntohl(address.s_addr) & mask;
  net->network.s_addr = htonl(network);
  net->mask.s_addr = htonl(mask);
  struct Member {
    const char* name;
    in_addr* address;
    u32 usual;
  };
  const Member members[] = {
      {"host", &net->host, kHost}, {"dns", &net->dns, kDns}, {"dhcpstart", &net->dhcp_start, kDhcpStart}};
  for (const Member& m : members) {
    m.address->s_addr = htonl(network | (m.usual & ~mask));
    if (const auto value = values.find(m.name);
        value != values.end() && !parse_ipv4(value->second, m.address))
      return make_error("-nic {}={}: is not an IPv4 address", m.name, value->second);
    const u32 in_network = ntohl(m.address->s_addr) & ~mask;
    if ((ntohl(m.address->s_addr) & mask) != network || in_network == 0 || in_network == ~mask)
      return make_error("-nic {}={}: is no address of the network {}/{}", m.name, to_text(*m.address),
                        to_text(net->network), std::popcount(mask));
    for (const Member* other = members; other != &m; ++other)
      if (other->address->s_addr == m.address->s_addr)
        return make_error("-nic {}={}: is the address of {}= too; give each of them one of its own in {}/{}",
                          m.name, to_text(*m.address), other->name, to_text(net->network),
                          std::popcount(mask));
  }
  return {};
}

bool has_prefix(const in6_addr& address, const in6_addr& prefix, unsigned bits) {
  for (unsigned i = 0; i < bits; ++i)
    if ((address.s6_addr[i / 8] ^ prefix.s6_addr[i / 8]) >> (7 - i % 8) & 1) return false;
  return true;
}

Status set_ipv6(const Values& values, bool forwards, Ipv6Net* net) {
  const auto given = values.find("ipv6-net");
  const std::string_view text = given == values.end() ? kDefaultIpv6Net : given->second;
  const auto slash = text.find('/');
  const std::optional<unsigned> bits = slash == std::string_view::npos
                                           ? kIpv6PrefixBits
                                           : parse_number_within(text.substr(slash + 1), 0u, 128u);
  if (!parse_ipv6(text.substr(0, slash), &net->prefix) || !bits)
    return make_error("-nic ipv6-net={}: write for example ipv6-net=fd00:1234::/64", text);
  if (*bits != kIpv6PrefixBits)
    return make_error("-nic ipv6-net={}: guests find an address of their own in a network of /64 only", text);
  for (unsigned i = *bits; i < 128; ++i)
    net->prefix.s6_addr[i / 8] = static_cast<u8>(net->prefix.s6_addr[i / 8] & ~(0x80 >> i % 8));
  net->prefix_length = static_cast<u8>(*bits);
  net->host = net->dns = net->prefix;
  net->host.s6_addr[15] |= kIpv6Host;
  net->dns.s6_addr[15] |= kIpv6Dns;
  for (const auto& [name, address] : {std::pair("ipv6-host", &net->host), std::pair("ipv6-dns", &net->dns)}) {
    if (const auto value = values.find(name); value != values.end() && !parse_ipv6(value->second, address))
      return make_error("-nic {}={}: is not an IPv6 address", name, value->second);
    if (!has_prefix(*address, net->prefix, *bits))
      return make_error("-nic {}={}: is no address of the network {}/{}", name, to_text(*address),
                        to_text(net->prefix), *bits);
  }
  if (std::memcmp(&net->host, &net->dns, sizeof net->host) == 0)
    return make_error("-nic ipv6-dns={}: is the address of ipv6-host= too", to_text(net->dns));
  const bool asked =
      forwards || values.contains("ipv6-net") || values.contains("ipv6-host") || values.contains("ipv6-dns");
  const auto flag = values.find("ipv6");
  if (flag == values.end()) {
    net->enabled = asked;
  } else if (flag->second == "on" || (flag->second == "off" && !asked)) {
    net->enabled = flag->second == "on";
  } else {
    return make_error("-nic ipv6={}: {}", flag->second,
                      asked ? "other options ask for IPv6; leave this one out" : "on or off is possible");
  }
  return {};
}

bool is_network_option(std::string_view key) {
  for (const std::string_view name :
       {"net", "host", "dns", "dhcpstart", "ipv6", "ipv6-net", "ipv6-host", "ipv6-dns"})
    if (key == name) return true;
  return false;
}

}  // namespace

Result<NicConfig> parse_nic(std::string_view text) {
  NicConfig config;
  Values network;
  bool has_options = false;
  std::string_view rest = text;
  for (bool first = true; !rest.empty() || first; first = false) {
    const auto comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
    if (first) {
      if (item == "none") {
        config.kind = NicConfig::Kind::none;
      } else if (item == "user") {
        config.kind = NicConfig::Kind::user;
        config.mac = kDefaultMac;
      } else {
        return make_error(
            "-nic {}: there are none and user; write for example -nic user,hostfwd=tcp::2222-:22", text);
      }
      continue;
    }
    const auto equals = item.find('=');
    const std::string_view key = item.substr(0, equals);
    has_options = has_options || key != "id";
    const std::string_view value = equals == std::string_view::npos ? "" : item.substr(equals + 1);
    if (key == "hostfwd") {
      DEJA_ASSIGN(HostForward f, parse_forward(value));
      config.forwards.push_back(std::move(f));
    } else if (key == "restrict" && (value == "on" || value == "off")) {
      config.restricted = value == "on";
    } else if (key == "mac" && is_mac(value)) {
      config.mac = value;
    } else if (is_network_option(key)) {
      network[key] = value;
    } else if (key == "model" && (value == "virtio" || value == "virtio-net-pci")) {
      // the only model there is
    } else if (key != "id") {
      return make_error(
          "-nic {}: '{}' is not understood; there are hostfwd=, restrict=on|off, net=, host=, dns=, "
          "dhcpstart=, "
          "ipv6=on|off, ipv6-net=, ipv6-host=, ipv6-dns=, mac=, model=virtio",
          text, item);
    }
  }
  if (config.kind == NicConfig::Kind::none) {
    if (has_options) return make_error("-nic {}: a card that does not exist has no options", text);
    return config;
  }
  bool forwards_ipv6 = false;
  for (const HostForward& f : config.forwards) forwards_ipv6 = forwards_ipv6 || f.ipv6;
  DEJA_TRY(set_ipv4(network, &config.ipv4));
  DEJA_TRY(set_ipv6(network, forwards_ipv6, &config.ipv6));
  return config;
}

}  // namespace deja
