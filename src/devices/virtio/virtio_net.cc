#include "devices/virtio/virtio_net.h"

#include <algorithm>

namespace deja {
namespace {

constexpr u64 kMac = u64{1} << 5, kStatus = u64{1} << 16;
constexpr unsigned kReceive = 0, kTransmit = 1;
constexpr u64 kHeaderSize = 12;  // struct virtio_net_hdr with num_buffers (5.1.6)
constexpr std::size_t kNumBuffers = 10;
constexpr VtimeNs kLatencyNs = 20'000;

std::vector<u8> config_bytes(const MacAddress& mac) {
  std::vector<u8> c(mac.begin(), mac.end());
  c.push_back(1);  // status: the link is up
  c.push_back(0);
  return c;
}

}  // namespace

VirtioNet::VirtioNet(std::string name, const MacAddress& mac, VirtioWiring wiring, Output output)
    : VirtioPci(std::move(name),
                {.virtio_id = 1,
                 .class_code = 0x020000,
                 .features = kMac | kStatus,
                 .queues = {256, 256},
                 .config = config_bytes(mac),
                 .latency = kLatencyNs},
                std::move(wiring)),
      output_(std::move(output)) {}

void VirtioNet::receive(std::string_view frame) {
  if (room() == 0 || frame.size() > kMaxFrame) return;
  input_.emplace_back(frame);
  schedule(kReceive, now() + kLatencyNs);
}

void VirtioNet::save(StateWriter& w) const {
  VirtioPci::save(w);
  w.field(static_cast<u32>(input_.size()));
  for (const std::string& frame : input_) {
    w.field(static_cast<u32>(frame.size()));
    w.bytes(frame.data(), frame.size());
  }
}

bool VirtioNet::restore(StateReader& r) {
  if (!VirtioPci::restore(r)) return false;
  u32 count = 0;
  r.field(count);
  input_.clear();
  bool ok = r.ok() && count <= kWaiting;
  for (u32 i = 0; ok && i < count; ++i) {
    u32 size = 0;
    r.field(size);
    ok = r.ok() && size <= kMaxFrame;
    if (!ok) break;
    std::string frame(size, '\0');
    r.bytes(frame.data(), size);
    input_.push_back(std::move(frame));
  }
  ok = ok && r.ok();
  if (!ok) reset();
  return ok;
}

void VirtioNet::serve(unsigned queue) {
  if (queue == kTransmit) return transmit(queue);
  while (!input_.empty()) {
    const std::optional<VirtioChain> chain = take(queue);
    if (!chain) break;
    const std::string frame = std::move(input_.front());
    input_.pop_front();
    u32 written = 0;
    if (chain->writable_bytes >= kHeaderSize + frame.size()) {
      std::array<u8, kHeaderSize> header{};
      header[kNumBuffers] = 1;
      if (!write_segments(ram(), chain->writable, 0, header.data(), kHeaderSize) ||
          !write_segments(ram(), chain->writable, kHeaderSize, frame.data(), frame.size()))
        return needs_reset("a buffer outside memory");
      written = static_cast<u32>(kHeaderSize + frame.size());
    }
    finish(queue, *chain, written);  // a buffer that is too small comes back empty, and the frame is lost
  }
  signal(queue);
}

void VirtioNet::transmit(unsigned queue) {
  while (const std::optional<VirtioChain> chain = take(queue)) {
    const u64 size = chain->readable_bytes;
    if (size > kHeaderSize && size - kHeaderSize <= kMaxFrame) {
      std::string frame(size - kHeaderSize, '\0');
      if (!read_segments(ram(), chain->readable, kHeaderSize, frame.data(), frame.size()))
        return needs_reset("a buffer outside memory");
      output_(frame);
    }
    finish(queue, *chain, 0);
  }
  signal(queue);
}

}  // namespace deja
