// QEMU's isa-debug-exit: a test guest ends the machine with a status by writing to a port. It has no state.
#pragma once

#include "devices/device.h"
#include "devices/io_bus.h"

namespace deja {

class DebugExit final : public PortDevice {
 public:
  static constexpr u16 kDefaultPort = 0xf4;
  static constexpr unsigned kPorts = 4;

  // `exit` gets the exit status, (value << 1) | 1.
  explicit DebugExit(std::function<void(u32 status)> exit) : exit_(std::move(exit)) {}
  void attach(IoBus& bus, u16 port = kDefaultPort) { bus.attach_ports(port, kPorts, this); }

  u32 port_read(u16 port, unsigned size) override { return 0; }
  void port_write(u16 port, u32 value, unsigned size) override { exit_(value << 1 | 1); }

 private:
  const std::function<void(u32)> exit_;
};

}  // namespace deja
