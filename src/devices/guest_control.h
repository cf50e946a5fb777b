// How a program in the guest talks to DejaVM itself: lines of text, written byte by byte to a port, or to the
// configuration space of the PCI host bridge.
//
//   mark TEXT              notes the moment under that name
//   record start [NAME]    begins a recording here
//   record stop            ends the recording; the machine goes on
//   exit [N]               switches the machine off at once; deja ends with status N
//
// A line ends with a newline. All ports of the window take the same line, since a program that writes a text
// to /dev/port writes it to one port after the other. Reading them says that the device is there. The
// hypercall (CPUID, see execute/system_misc.cc) hands over a whole line at once. docs/guest-control.md is for
// users.
#pragma once

#include <array>
#include <functional>
#include <string>

#include "devices/byte_port_device.h"
#include "devices/io_bus.h"

namespace deja {

struct GuestCommand {
  enum class Kind : u8 { mark, record_start, record_stop, exit } kind = Kind::mark;
  std::string text;  // of a mark; the name of a recording, or nothing
  u8 exit_code = 0;
  bool operator==(const GuestCommand&) const = default;
};

class GuestControl final : public Device, public BytePortDevice {
 public:
  static constexpr std::size_t kMaxLine = 255;
  static constexpr unsigned kPorts = 256;
  static constexpr u8 kPresent = 0xde;  // what every port reads as

  struct State {
    std::array<u8, kMaxLine> line{};  // as far as it has been written
    u8 length = 0;
    bool too_long = false;  // the line is dropped at its end
  };

  // `act` gets what was asked for, in the middle of the instruction that completed the line. `marks_only`:
  // other commands are dropped.
  GuestControl(u16 base, bool marks_only, std::function<void(const GuestCommand&)> act)
      : base_(base), marks_only_(marks_only), act_(std::move(act)) {}
  void attach(IoBus& bus) { bus.attach_ports(base_, kPorts, this); }
  void take_byte(u8 value);
  // A line without its newline; an empty one does nothing.
  void take_line(std::string_view line);

  std::string_view name() const override { return "guest_control"; }
  void reset() override { s_ = {}; }
  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;

 protected:
  u8 read_byte(u16) override { return kPresent; }
  void write_byte(u16, u8 value) override { take_byte(value); }

 private:
  const u16 base_;
  const bool marks_only_;
  const std::function<void(const GuestCommand&)> act_;
  State s_;
};

}  // namespace deja
