// Every device is a plain State struct, saved and restored beside it, driven by virtual time and by
// port and memory accesses. A device never looks at host time, never allocates identity from host pointers,
// and never iterates over unordered containers.
#pragma once

#include <functional>
#include <string_view>

#include "base/archive.h"
#include "base/types.h"

namespace deja {

// An interrupt wire: level high or low. Edge-triggered receivers look at the transition.
using IrqLine = std::function<void(bool level)>;

// Tells devices the time. Backed by the machine's Clock; exact at every device access.
class TimeSource {
 public:
  virtual ~TimeSource() = default;
  virtual VtimeNs now() const = 0;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual std::string_view name() const = 0;  // unique in a machine, e.g. "uart0"
  // Power-on / RESET# state. Also drops outputs (interrupt lines low).
  virtual void reset() = 0;
  virtual void save(StateWriter& w) const = 0;
  // False when the bytes cannot be a state of this device; the device is then reset().
  virtual bool restore(StateReader& r) = 0;
  // Absolute virtual time of the next internal event, kNeverNs when there is none. Must be a function of
  // State.
  virtual VtimeNs next_event() const { return kNeverNs; }
  // Runs all internal events due at or before `now`. Called at exactly the first step where now >=
  // next_event(), and may also be called earlier or more often without visible effect.
  virtual void advance(VtimeNs now) {}
};

class PortDevice {
 public:
  virtual ~PortDevice() = default;
  virtual u32 port_read(u16 port, unsigned size) = 0;
  virtual void port_write(u16 port, u32 value, unsigned size) = 0;
};

class MmioDevice {
 public:
  virtual ~MmioDevice() = default;
  // `offset` from the start of the device's window; size 1, 2, 4 or 8.
  virtual u64 mmio_read(u64 offset, unsigned size) = 0;
  virtual void mmio_write(u64 offset, u64 value, unsigned size) = 0;
};

}  // namespace deja
