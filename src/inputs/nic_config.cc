#include "inputs/nic_config.h"

#include <charconv>

namespace deja {
namespace {

constexpr std::string_view kDefaultMac = "52:54:00:12:34:56";

bool parse_port(std::string_view text, unsigned* port) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *port);
  return error == std::errc() && end == text.data() + text.size() && *port >= 1 && *port <= 65535;
}

bool is_mac(std::string_view text) {
  if (text.size() != 17) return false;
  for (std::size_t i = 0; i < text.size(); ++i)
    if (i % 3 == 2 ? text[i] != ':' : !std::isxdigit(static_cast<unsigned char>(text[i]))) return false;
  return true;
}

// tcp:[ADDR]:PORT-[ADDR]:PORT
Result<HostForward> parse_forward(std::string_view text) {
  const auto bad = [&] {
    return make_error(
        "-nic hostfwd={}: write for example hostfwd=tcp::2222-:22 (host's port 2222 to the guest's 22)",
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
  const auto side = [](std::string_view s, std::string* address, unsigned* port) {
    const auto colon = s.rfind(':');
    if (colon == std::string_view::npos) return false;
    *address = s.substr(0, colon);
    return parse_port(s.substr(colon + 1), port);
  };
  if (!side(rest.substr(0, dash), &f.host_address, &f.host_port) ||
      !side(rest.substr(dash + 1), &f.guest_address, &f.guest_port))
    return bad();
  return f;
}

}  // namespace

Result<NicConfig> parse_nic(std::string_view text) {
  NicConfig config;
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
    const std::string_view value = equals == std::string_view::npos ? "" : item.substr(equals + 1);
    if (key == "hostfwd") {
      DEJA_ASSIGN(HostForward f, parse_forward(value));
      config.forwards.push_back(std::move(f));
    } else if (key == "restrict" && (value == "on" || value == "off")) {
      config.restricted = value == "on";
    } else if (key == "mac" && is_mac(value)) {
      config.mac = value;
    } else if (key == "model" && (value == "virtio" || value == "virtio-net-pci")) {
      // the only model there is
    } else if (key != "id") {
      return make_error(
          "-nic {}: '{}' is not understood; there are hostfwd=, restrict=on|off, mac=, model=virtio", text,
          item);
    }
  }
  if (config.kind == NicConfig::Kind::none && config != NicConfig{})
    return make_error("-nic {}: a card that does not exist has no options", text);
  return config;
}

}  // namespace deja
