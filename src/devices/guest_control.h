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
// hypercall (CPUID, see semantics/system_misc.cc) hands over a whole line at once. docs/guest-control.md is
// for users.
//
// A recording keeps every mark, and any program may set some: what they may take of the host's disk is
// bounded, in the guest's own time, so that a replay refuses the same ones. A mark takes the size of its text
// and kMarkCost out of an allowance of kMarkBurst bytes, to which a byte comes back every kMarkRefillNs, and
// out of kMostMarks bytes that there are in all. A reset gives nothing back.
#pragma once

#include <array>
#include <functional>
#include <string>

#include "devices/byte_port_device.h"
#include "devices/io_bus.h"

namespace deja {

struct GuestCommand {
  // marks_refused: of the guest's marks some are refused from here on.
  enum class Kind : u8 { mark, record_start, record_stop, exit, marks_refused } kind = Kind::mark;
  std::string text;  // a mark's text, or a recording's name, or nothing
  u8 exit_code = 0;
  bool operator==(const GuestCommand&) const = default;
};

class GuestControl final : public Device, public BytePortDevice {
 public:
  static constexpr std::size_t kMaxLine = 255;
  static constexpr unsigned kPorts = 256;
  static constexpr u8 kPresent = 0xde;  // what every port reads as
  // Bytes: about what the log takes for a mark besides its text; some thousand marks at once; in all.
  static constexpr u64 kMarkCost = 32, kMarkBurst = 256 * 1024, kMostMarks = 64 * 1024 * 1024;
  static constexpr VtimeNs kMarkRefillNs = 1 << 18;  // 3.8 kB a second, some 80 marks

  struct State {
    std::array<u8, kMaxLine> line{};  // as far as it has been written
    u8 length = 0;
    bool too_long = false;  // the line is dropped at its end
    // The allowance for marks: what is missing from it, as of when; all that were taken, in bytes; whether
    // the last one was refused.
    u64 missing = 0;
    VtimeNs missing_at = 0;
    u64 taken = 0;
    bool refusing = false;
  };

  // `act` gets what was asked for, in the middle of the instruction that completed the line. `marks_only`:
  // other commands are dropped.
  GuestControl(u16 base, const TimeSource& time, bool marks_only,
               std::function<void(const GuestCommand&)> act)
      : base_(base), time_(time), marks_only_(marks_only), act_(std::move(act)) {}
  void attach(IoBus& bus) { bus.attach_ports(base_, kPorts, this); }
  void take_byte(u8 value);
  // A line without its newline; an empty one does nothing. False: a mark too many.
  bool take_line(std::string_view line);

  std::string_view name() const override { return "guest_control"; }
  void reset() override;
  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;

 protected:
  u8 read_byte(u16) override { return kPresent; }
  void write_byte(u16, u8 value) override { take_byte(value); }

 private:
  bool may_mark(std::size_t size);

  const u16 base_;
  const TimeSource& time_;
  const bool marks_only_;
  const std::function<void(const GuestCommand&)> act_;
  State s_;
};

}  // namespace deja
