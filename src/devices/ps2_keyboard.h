// The keyboard at the other end of the 8042's cable, with scan code set 2 (IBM PS/2 Hardware Technical
// Reference, "Keyboard"): it answers commands, and sends the codes of keys when it may. Part of the
// controller's state.
#pragma once

#include <array>
#include <optional>
#include <string_view>

#include "base/archive.h"
#include "base/types.h"

namespace deja {

class Ps2Keyboard {
 public:
  static constexpr unsigned kBuffer = 64;  // bytes that wait for the controller
  struct State {
    std::array<u8, kBuffer> waiting{};
    u8 first = 0, count = 0;
    u8 pending = 0;  // the command whose parameter is expected; 0: none
    u8 last = 0;     // byte sent, which the controller may ask for again
    u8 leds = 0;
    bool scanning = true;
  };

  void reset() { s_ = State{}; }
  void save(StateWriter& w) const;
  bool restore(StateReader& r);

  // A byte from the computer.
  void receive(u8 byte);
  // Keys are pressed and released. Dropped whole when they do not fit, and when scanning is off.
  void type(std::string_view codes);
  // The next byte for the computer.
  std::optional<u8> next();

  const State& state() const { return s_; }

 private:
  void send(u8 byte);

  State s_;
};

// Translates a byte of set 2 as the controller does in translation mode (command byte bit 6): set 1. F0h, the
// prefix of a released key, is `released` for the byte after it.
u8 translate_scan_code(u8 byte, bool released);

}  // namespace deja
