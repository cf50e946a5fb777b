// The virtio console behind a hostile driver, with bytes coming in.
#include "devices/virtio/virtio_console.h"
#include "fuzz/hostile_driver.h"

namespace deja::fuzz {

void run_case(Random& random) {
  VirtioPci* last = nullptr;
  const auto type = [](VirtioPci& device, u64 bytes) {
    while (bytes-- > 0) static_cast<VirtioConsole&>(device).receive('x');
  };
  abuse(
      random, 2,
      [&](VirtioBench& bench) {
        auto device = std::make_unique<VirtioConsole>(bench.wiring(), [](u8) {});
        last = device.get();
        return device;
      },
      [&](VirtioPci& device) {
        type(device, random.pick<u64>({1, 100, 5000}));
      },
      [&](HostileDriver& driver) {
        constexpr u64 at = HostileDriver::kBuffers;
        return driver.serves(1, {{at, 60, false}}) &&
               driver.serves(0, {{at, 64, true}}, [&] { type(*last, 10); });
      });
}

}  // namespace deja::fuzz
