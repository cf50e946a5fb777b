#include "devices/virtio/virtio_console.h"

#include <algorithm>

namespace deja {
namespace {

constexpr unsigned kReceive = 0, kTransmit = 1;
constexpr VtimeNs kLatencyNs = 10'000;

}  // namespace

VirtioConsole::VirtioConsole(VirtioWiring wiring, std::function<void(u8)> output)
    : VirtioPci("virtio_console",
                {.virtio_id = 3,
                 .class_code = 0x078000,
                 .features = 0,
                 .queues = {64, 64},
                 .config = std::vector<u8>(12),
                 .latency = kLatencyNs},
                std::move(wiring)),
      output_(std::move(output)) {}

void VirtioConsole::receive(u8 byte) {
  if (room() == 0) return;
  input_.push_back(byte);
  schedule(kReceive, now() + kLatencyNs);
}

void VirtioConsole::save(StateWriter& w) const {
  VirtioPci::save(w);
  w.vector(std::vector<u8>(input_.begin(), input_.end()));
}

bool VirtioConsole::restore(StateReader& r) {
  if (!VirtioPci::restore(r)) return false;
  std::vector<u8> bytes;
  r.vector(bytes, kBuffer);
  input_.assign(bytes.begin(), bytes.end());
  if (!r.ok()) reset();
  return r.ok();
}

void VirtioConsole::serve(unsigned queue) {
  if (queue == kTransmit) return transmit(queue);
  while (!input_.empty()) {
    const std::optional<VirtioChain> chain = take(queue);
    if (!chain) break;
    const u64 n = std::min<u64>(chain->writable_bytes, input_.size());
    const std::vector<u8> bytes(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(n));
    if (!write_segments(ram(), chain->writable, 0, bytes.data(), n))
      return needs_reset("a buffer outside memory");
    input_.erase(input_.begin(), input_.begin() + static_cast<std::ptrdiff_t>(n));
    finish(queue, *chain, static_cast<u32>(n));
  }
  signal(queue);
}

void VirtioConsole::transmit(unsigned queue) {
  while (const std::optional<VirtioChain> chain = take(queue)) {
    std::vector<u8> bytes(std::min<u64>(chain->readable_bytes, 64_KiB));
    if (!read_segments(ram(), chain->readable, 0, bytes.data(), bytes.size()))
      return needs_reset("a buffer outside memory");
    for (const u8 b : bytes) output_(b);
    finish(queue, *chain, 0);
  }
  signal(queue);
}

}  // namespace deja
