#include "devices/virtio/virtio_rng.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>

namespace deja {
namespace {

constexpr VtimeNs kLatencyNs = 10'000;
constexpr u64 kMostBytes = 4096;  // given to one request

// The guest's kernel gets the seed itself through its boot parameters; this stream is another one.
ChaChaKey derive_key(std::span<const u8> seed) {
  ChaChaKey key;
  for (unsigned i = 0; i < key.size(); i += 4) {
    const XXH128_hash_t h = XXH3_128bits_withSeed(seed.data(), seed.size(), 0x766972746e67 + i);
    std::memcpy(&key[i], &h.low64, 8);
    std::memcpy(&key[i + 2], &h.high64, 8);
  }
  return key;
}

}  // namespace

VirtioRng::VirtioRng(std::span<const u8> seed, VirtioWiring wiring)
    : VirtioPci("virtio_rng",
                {.virtio_id = 4,
                 .class_code = 0xff0000,
                 .features = 0,
                 .queues = {8},
                 .config = {},
                 .latency = kLatencyNs},
                std::move(wiring)),
      key_(derive_key(seed)) {}

void VirtioRng::save(StateWriter& w) const {
  VirtioPci::save(w);
  w.field(blocks_);
}

bool VirtioRng::restore(StateReader& r) {
  if (!VirtioPci::restore(r)) return false;
  r.field(blocks_);
  if (!r.ok()) reset();
  return r.ok();
}

void VirtioRng::serve(unsigned queue) {
  while (const std::optional<VirtioChain> chain = take(queue)) {
    const u64 size = std::min(chain->writable_bytes, kMostBytes);
    for (u64 done = 0; done < size; done += 64) {
      const u64 n = blocks_++;
      const auto block = chacha20_block(key_, static_cast<u32>(n), {static_cast<u32>(n >> 32), 0, 0});
      if (!write_segments(ram(), chain->writable, done, block.data(), std::min<u64>(64, size - done)))
        return needs_reset("a buffer outside memory");
    }
    finish(queue, *chain, static_cast<u32>(size));
  }
  signal(queue);
}

}  // namespace deja
