// The virtio network device (virtio 1.2 section 5.1): one pair of queues, no offloads.
#pragma once

#include <array>
#include <deque>
#include <string_view>

#include "devices/virtio/virtio_pci.h"

namespace deja {

using MacAddress = std::array<u8, 6>;

class VirtioNet final : public VirtioPci {
 public:
  static constexpr std::size_t kMaxFrame = 1514;  // without the frame check sequence
  static constexpr std::size_t kWaiting = 64;     // frames from outside that wait for the driver

  // `output` gets each frame that the guest sends; it must not touch the machine.
  using Output = std::function<void(std::string_view frame)>;
  VirtioNet(std::string name, const MacAddress& mac, VirtioWiring wiring, Output output);

  // How many frames it can take now.
  std::size_t room() const { return running() ? kWaiting - input_.size() : 0; }
  // A frame from outside. Without room, or a driver, it is lost, as on a wire.
  void receive(std::string_view frame);

  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;

 protected:
  void serve(unsigned queue) override;
  void driver_reset() override { input_.clear(); }

 private:
  void transmit(unsigned queue);

  Output output_;
  std::deque<std::string> input_;
};

}  // namespace deja
