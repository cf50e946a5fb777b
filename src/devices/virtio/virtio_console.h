// The virtio console device (virtio 1.2 section 5.3) with its one port, hvc0 in Linux.
#pragma once

#include <deque>

#include "devices/virtio/virtio_pci.h"

namespace deja {

class VirtioConsole final : public VirtioPci {
 public:
  static constexpr std::size_t kBuffer = 4096;  // bytes from outside that wait for the driver

  // `output` gets what the guest sends; it must not touch the machine.
  VirtioConsole(VirtioWiring wiring, std::function<void(u8)> output);

  std::size_t room() const { return running() ? kBuffer - input_.size() : 0; }
  void receive(u8 byte);

  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;

 protected:
  void serve(unsigned queue) override;
  void driver_reset() override { input_.clear(); }

 private:
  void transmit(unsigned queue);

  std::function<void(u8)> output_;
  std::deque<u8> input_;
};

}  // namespace deja
