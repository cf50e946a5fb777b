// All devices of a machine in a fixed order: their events, their saved state, their digest.
#pragma once

#include <algorithm>
#include <vector>

#include "base/result.h"
#include "devices/device.h"

namespace deja {

class DeviceSet {
 public:
  // The order of adding is the order of events due at the same time and of the saved bytes. Names are unique.
  void add(Device* device);
  const std::vector<Device*>& devices() const { return devices_; }

  // RESET#: every device, in order.
  void reset();

  VtimeNs next_event() const {
    VtimeNs next = kNeverNs;
    for (const Device* d : devices_) next = std::min(next, d->next_event());
    return next;
  }
  // Runs what is due; returns the time of what comes next.
  VtimeNs advance(VtimeNs now) {
    if (const VtimeNs next = next_event(); next > now) return next;
    for (Device* d : devices_) d->advance(now);
    return next_event();
  }

  // Per device: name, length in bytes (u32), state. A name is a length (u8) and its characters.
  void save(StateWriter& w) const;
  // The same devices in the same order must stand in the saved bytes. On an error the devices read so far
  // keep their new state and the one at fault is reset: the machine is then of no further use.
  Status restore(StateReader& r);
  // XXH3 over the saved bytes.
  u64 digest() const;

 private:
  std::vector<Device*> devices_;
};

}  // namespace deja
