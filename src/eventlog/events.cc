#include "eventlog/events.h"

#include <fmt/format.h>

#include <array>
#include <type_traits>

namespace deja {
namespace {

template <class... Fs>
struct Overloaded : Fs... {
  using Fs::operator()...;
};
template <class... Fs>
Overloaded(Fs...) -> Overloaded<Fs...>;

constexpr std::array<std::string_view, kEventKinds> kKindNames = {
    "serial",    "break",    "power",    "nmi",    "reset", "pause", "resume", "mark",
    "wallclock", "progress", "idle-cut", "digest", "end",   "frame", "keys"};

constexpr std::array<std::string_view, event::kEndReasons> kEndReasonNames = {
    "power-off", "debug-exit", "quit", "signal", "shutdown", "step-limit", "host-error", "reset"};

// A C string literal; UTF-8 is kept byte by byte as escapes, so that any terminal shows the same.
std::string in_quotes(std::string_view bytes) {
  std::string out = "\"";
  for (const char c : bytes) {
    const u8 b = static_cast<u8>(c);
    switch (c) {
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      default:
        if (b >= 0x20 && b < 0x7f) {
          out += c;
        } else {
          out += fmt::format("\\x{:02x}", b);
        }
    }
  }
  return out + '"';
}

// "98 bytes from 52:55:0a:00:02:02 to 52:54:00:12:34:56 type 0800".
std::string frame_summary(std::string_view frame) {
  if (frame.size() < 14) return fmt::format("{} bytes", frame.size());
  const auto mac = [&](std::size_t at) {
    std::string text;
    for (std::size_t i = 0; i < 6; ++i)
      text += fmt::format("{}{:02x}", i ? ":" : "", static_cast<u8>(frame[at + i]));
    return text;
  };
  return fmt::format("{} bytes from {} to {} type {:02x}{:02x}", frame.size(), mac(6), mac(0),
                     static_cast<u8>(frame[12]), static_cast<u8>(frame[13]));
}

std::string seconds(u64 ns) { return fmt::format("{}.{:09}", ns / 1'000'000'000, ns % 1'000'000'000); }

}  // namespace

std::optional<EventBody> to_event(const HostInput& in) {
  return std::visit(
      [](const auto& x) -> std::optional<EventBody> {
        if constexpr (std::is_same_v<std::decay_t<decltype(x)>, input::Quit>) {
          return std::nullopt;
        } else {
          return x;
        }
      },
      in);
}

bool reaches_machine(const EventBody& body) {
  return std::visit(Overloaded{
                        [](const input::SerialBytes&) { return true; },
                        [](const input::SerialBreak&) { return true; },
                        [](const input::PowerButton&) { return true; },
                        [](const input::NmiButton&) { return true; },
                        [](const input::ResetButton&) { return true; },
                        [](const input::NetFrame&) { return true; },
                        [](const input::Keys&) { return true; },
                        [](const event::IdleCut&) { return true; },
                        [](const auto&) { return false; },
                    },
                    body);
}

std::string_view kind_name(std::size_t index) { return index < kEventKinds ? kKindNames[index] : "?"; }
std::string_view kind_name(const EventBody& body) { return kind_name(body.index()); }

std::string_view to_string(event::EndReason reason) {
  const auto i = static_cast<std::size_t>(reason);
  return i < kEndReasonNames.size() ? kEndReasonNames[i] : "?";
}

std::optional<event::EndReason> parse_end_reason(std::string_view text) {
  for (std::size_t i = 0; i < kEndReasonNames.size(); ++i)
    if (kEndReasonNames[i] == text) return static_cast<event::EndReason>(i);
  return std::nullopt;
}

std::string describe(const EventBody& body) {
  const std::string fields = std::visit(
      Overloaded{
          [](const input::SerialBytes& e) { return fmt::format(" port={} {}", e.port, in_quotes(e.bytes)); },
          [](const input::SerialBreak& e) { return fmt::format(" port={}", e.port); },
          [](const input::NetFrame& e) { return fmt::format(" nic={} {}", e.nic, frame_summary(e.bytes)); },
          [](const input::Keys& e) { return " " + in_quotes(e.codes); },
          [](const input::Mark& e) { return " " + in_quotes(e.text); },
          [](const event::WallClock& e) { return fmt::format(" unix_ns={}", e.unix_ns); },
          [](const event::Progress& e) { return fmt::format(" host={}s", seconds(e.host_ns)); },
          [](const event::IdleCut& e) { return fmt::format(" warp_ns={}", e.warp_ns); },
          [](const event::Digest& e) {
            return fmt::format(" cpu={:016x} ram={:016x} devices={:016x}", e.cpu, e.ram, e.devices);
          },
          [](const event::End& e) {
            return fmt::format(" reason={} code={} {}", to_string(e.reason), e.code, in_quotes(e.detail));
          },
          [](const auto&) { return std::string(); },
      },
      body);
  return std::string(kind_name(body)) + fields;
}

}  // namespace deja
