// The virtio network card behind a hostile driver, with frames of all sizes coming in.
#include "devices/virtio/virtio_net.h"
#include "fuzz/hostile_driver.h"

namespace deja::fuzz {

void run_case(Random& random) {
  const auto receive = [&](VirtioPci& device, std::size_t size) {
    static_cast<VirtioNet&>(device).receive(random.bytes(size));
  };
  VirtioPci* last = nullptr;
  abuse(
      random, 2,
      [&](VirtioBench& bench) {
        auto device = std::make_unique<VirtioNet>(
            "net", MacAddress{0x52, 0x54}, bench.wiring(), [](std::string_view frame) {
              DEJA_CHECK(!frame.empty() && frame.size() <= VirtioNet::kMaxFrame, "a frame of {} bytes",
                         frame.size());
            });
        last = device.get();
        return device;
      },
      [&](VirtioPci& device) {
        receive(device, random.pick<u64>({0, 1, 14, 60, 1514, 1515, 9000}));
      },
      [&](HostileDriver& driver) {
        constexpr u64 at = HostileDriver::kBuffers;
        return driver.serves(1, {{at, 12, false}, {at + 0x1000, 60, false}}) &&
               driver.serves(0, {{at, 2048, true}}, [&] { receive(*last, 60); });
      });
}

}  // namespace deja::fuzz
