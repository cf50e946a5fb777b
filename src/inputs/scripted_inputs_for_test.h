// A fake host for tests of sessions: inputs at given host times.
#pragma once

#include <algorithm>
#include <deque>
#include <utility>
#include <variant>
#include <vector>

#include "inputs/input_source.h"

namespace deja {

// Inputs at given host times, for tests of sessions.
class ScriptedInputs : public InputSource {
 public:
  explicit ScriptedInputs(HostClock& clock) : clock_(clock) {}
  // `at_ns` (monotonic) must not decrease from call to call.
  void add(u64 at_ns, HostInput input) { script_.push_back({at_ns, std::move(input)}); }

  std::vector<HostInput> poll(InputRoom room) override;
  bool wait_until(u64 deadline_ns, InputRoom room) override;

 private:
  struct Item {
    u64 at_ns;
    HostInput input;
  };
  HostClock& clock_;
  std::deque<Item> script_;
};

inline std::vector<HostInput> ScriptedInputs::poll(InputRoom room) {
  std::vector<HostInput> out;
  std::size_t frames = room.frames;
  std::vector<std::size_t> left(room.serial.begin(), room.serial.end());
  for (auto it = script_.begin(); it != script_.end() && it->at_ns <= clock_.monotonic_ns();) {
    auto* serial = std::get_if<input::SerialBytes>(&it->input);
    if (serial) {
      const std::size_t can_take = serial->port < left.size() ? left[serial->port] : 0;
      const std::size_t n = std::min(can_take, serial->bytes.size());
      if (n > 0) out.push_back(input::SerialBytes{serial->port, serial->bytes.substr(0, n)});
      if (n < serial->bytes.size()) {
        // What does not fit waits, and bytes behind it on the same line wait too.
        serial->bytes.erase(0, n);
        if (serial->port < left.size()) left[serial->port] = 0;
        ++it;
        continue;
      }
      left[serial->port] -= n;
    } else if (std::holds_alternative<input::NetFrame>(it->input) && frames == 0) {
      ++it;
      continue;
    } else {
      if (std::holds_alternative<input::NetFrame>(it->input)) --frames;
      out.push_back(std::move(it->input));
    }
    it = script_.erase(it);
  }
  return out;
}

inline bool ScriptedInputs::wait_until(u64 deadline_ns, InputRoom room) {
  for (const Item& item : script_) {
    const auto* serial = std::get_if<input::SerialBytes>(&item.input);
    if (serial && (serial->port >= room.serial.size() || room.serial[serial->port] == 0)) continue;
    if (std::holds_alternative<input::NetFrame>(item.input) && room.frames == 0) continue;
    if (item.at_ns > deadline_ns) break;
    clock_.sleep_until(item.at_ns);
    return true;
  }
  if (deadline_ns != kNeverNs) clock_.sleep_until(deadline_ns);
  return false;
}

}  // namespace deja
