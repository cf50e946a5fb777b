#include "inputs/serial_config.h"

#include <optional>

namespace deja {
namespace {

// "on"/"off" as QEMU takes them; an option without value is on.
std::optional<bool> on_off(std::string_view value) {
  if (value == "on" || value == "yes" || value == "true" || value == "y") return true;
  if (value == "off" || value == "no" || value == "false" || value == "n") return false;
  return std::nullopt;
}

Result<SerialConfig> parse_unix(std::string_view whole, std::string_view rest) {
  SerialConfig c{.kind = SerialConfig::Kind::unix_socket};
  auto comma = rest.find(',');
  c.path = rest.substr(0, comma);
  bool server = false;
  std::optional<bool> wait;
  while (comma != std::string_view::npos) {
    rest.remove_prefix(comma + 1);
    comma = rest.find(',');
    const std::string_view option = rest.substr(0, comma);
    const auto equals = option.find('=');
    const std::string_view name = option.substr(0, equals);
    const auto on =
        equals == std::string_view::npos ? std::optional(true) : on_off(option.substr(equals + 1));
    if (on && name == "server") {
      server = *on;
      if (!server)
        return make_error("serial '{}': server=off is not supported; DejaVM is the listening side", whole);
    } else if (on && name == "wait") {
      wait = *on;
    } else if (on && name == "nowait") {
      wait = !*on;
    } else {
      return make_error("serial '{}': unknown option '{}'; possible are server, wait and nowait", whole,
                        option);
    }
  }
  // QEMU's rule: a server waits unless told not to. The short form unix:PATH does not.
  c.wait = wait.value_or(server);
  return c;
}

}  // namespace

Result<SerialConfig> parse_serial(std::string_view text) {
  using Kind = SerialConfig::Kind;
  if (text == "stdio" || text == "mon:stdio") return SerialConfig{.kind = Kind::stdio};
  if (text == "none" || text == "null") return SerialConfig{.kind = Kind::none};
  SerialConfig c;
  if (text.starts_with("file:")) {
    c = {.kind = Kind::file, .path = std::string(text.substr(5))};
  } else if (text.starts_with("unix:")) {
    DEJA_ASSIGN(c, parse_unix(text, text.substr(5)));
  } else {
    return make_error(
        "serial '{}': possible are stdio, mon:stdio, none, null, file:PATH and unix:PATH[,server][,nowait]",
        text);
  }
  if (c.path.empty()) return make_error("serial '{}': the path is missing", text);
  if (c.path.find('\0') != std::string::npos) return make_error("serial: a path cannot contain a zero byte");
  return c;
}

std::string to_string(const SerialConfig& c) {
  switch (c.kind) {
    case SerialConfig::Kind::none:
      return "none";
    case SerialConfig::Kind::stdio:
      return "stdio";
    case SerialConfig::Kind::file:
      return "file:" + c.path;
    case SerialConfig::Kind::unix_socket:
      return "unix:" + c.path + (c.wait ? ",server" : "");
  }
  return "?";
}

}  // namespace deja
