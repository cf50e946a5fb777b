// The virtio entropy device behind a hostile driver.
#include "devices/virtio/virtio_rng.h"
#include "fuzz/hostile_driver.h"

namespace deja::fuzz {

void run_case(Random& random) {
  const std::vector<u8> seed(32, static_cast<u8>(random()));
  abuse(
      random, 1, [&](VirtioBench& bench) { return std::make_unique<VirtioRng>(seed, bench.wiring()); },
      [](VirtioPci&) {},
      [](HostileDriver& driver) {
        return driver.serves(0, {{HostileDriver::kBuffers, 64, true}});
      });
}

}  // namespace deja::fuzz
