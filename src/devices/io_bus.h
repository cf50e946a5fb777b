// Routes port and memory-mapped accesses to devices. Wiring, not state: built once, never saved.
#pragma once

#include <vector>

#include "devices/device.h"

namespace deja {

class IoBus {
 public:
  // Ranges must not overlap: two devices on one address are a mistake in the wiring of the machine.
  void attach_ports(u16 first, unsigned count, PortDevice* device);
  void attach_mmio(Gpa base, u64 size, MmioDevice* device);

  // Size 1, 2 or 4. Bytes that no device claims read as ones, and writes to them are dropped. An access that
  // spills over the end of a device's range is cut into bytes.
  u32 port_read(u16 port, unsigned size);
  void port_write(u16 port, u32 value, unsigned size);

  // Size 1 to 8. An access not wholly inside one window reads as ones.
  u64 mmio_read(Gpa address, unsigned size);
  void mmio_write(Gpa address, u64 value, unsigned size);

 private:
  struct PortRange {
    u32 first, end;
    PortDevice* device;
  };
  struct MmioRange {
    u64 first, end;
    MmioDevice* device;
  };
  const PortRange* find_port(u32 port) const;
  const MmioRange* find_mmio(u64 address, unsigned size) const;

  std::vector<PortRange> ports_;  // both sorted by `first`
  std::vector<MmioRange> mmio_;
};

}  // namespace deja
