// The virtio entropy device (virtio 1.2 section 5.4): a stream of random bytes that follows from the
// machine's seed, which is a recorded input.
#pragma once

#include <span>

#include "devices/chacha20.h"
#include "devices/virtio/virtio_pci.h"

namespace deja {

class VirtioRng final : public VirtioPci {
 public:
  // `seed`: any number of bytes.
  VirtioRng(std::span<const u8> seed, VirtioWiring wiring);

  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;

 protected:
  void serve(unsigned queue) override;

 private:
  const ChaChaKey key_;
  // Bytes of the stream given out so far. The stream goes on over resets: a guest that starts again gets new
  // numbers.
  u64 blocks_ = 0;
};

}  // namespace deja
