// A device with 8-bit ports. The ISA bus cuts wider accesses into bytes at successive ports, low byte first.
#pragma once

#include "devices/device.h"

namespace deja {

class BytePortDevice : public PortDevice {
 public:
  u32 port_read(u16 port, unsigned size) final {
    u32 value = 0;
    for (unsigned i = 0; i < size; i++) value |= u32{read_byte(static_cast<u16>(port + i))} << (8 * i);
    return value;
  }
  void port_write(u16 port, u32 value, unsigned size) final {
    for (unsigned i = 0; i < size; i++)
      write_byte(static_cast<u16>(port + i), static_cast<u8>(value >> (8 * i)));
  }

 protected:
  virtual u8 read_byte(u16 port) = 0;
  virtual void write_byte(u16 port, u8 value) = 0;
};

}  // namespace deja
