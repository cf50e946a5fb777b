#include "devices/virtio_blk.h"

#include <algorithm>
#include <cstring>

namespace deja {
namespace {

constexpr u64 kSegMax = u64{1} << 2, kReadOnly = u64{1} << 5, kBlkSize = u64{1} << 6, kFlush = u64{1} << 9;
constexpr u16 kQueueSize = 256;
constexpr u32 kSegments = kQueueSize - 2;  // without header and status

enum RequestType : u32 { kIn = 0, kOut = 1, kFlushCache = 4, kGetId = 8 };
constexpr u8 kOk = 0, kIoError = 1, kUnsupported = 2;
constexpr u64 kIdSize = 20;

struct Header {
  u32 type;
  u32 reserved;
  u64 sector;
};

// How long it takes: like a fast solid-state disk. Part of the machine's behaviour.
constexpr VtimeNs kFirstNs = 20'000, kNextNs = 5'000;
constexpr u64 kBytesPerNs = 2;

std::vector<u8> config_bytes(u64 sectors) {
  std::vector<u8> c(36);
  const u32 block = static_cast<u32>(VirtioBlk::kSector);
  std::memcpy(&c[0], &sectors, 8);
  std::memcpy(&c[12], &kSegments, 4);
  std::memcpy(&c[20], &block, 4);
  return c;
}

}  // namespace

VirtioBlk::VirtioBlk(std::string name, Config config, DiskOverlay& disk, VirtioWiring wiring,
                     HostTrouble trouble)
    : VirtioPci(std::move(name),
                {.virtio_id = 2,
                 .class_code = 0x010000,
                 .features = kSegMax | kBlkSize | kFlush | (config.read_only ? kReadOnly : 0),
                 .queues = {kQueueSize},
                 .config = config_bytes((disk.size() + kSector - 1) / kSector),
                 .latency = kFirstNs},
                std::move(wiring)),
      config_(std::move(config)),
      sectors_((disk.size() + kSector - 1) / kSector),
      disk_(disk),
      trouble_(std::move(trouble)) {}

void VirtioBlk::serve(unsigned queue) {
  const std::optional<VirtioChain> chain = take(queue);
  if (!chain) return;
  // A header to read and a status to write is the least.
  if (chain->readable_bytes < sizeof(Header) || chain->writable_bytes < 1)
    return needs_reset("a request without header or status");
  Result<Outcome> outcome = perform(*chain);
  if (!outcome.ok()) {
    // Nothing has changed; the same is tried again at the same step.
    put_back(queue);
    schedule(queue, now());
    return trouble_(outcome.error());
  }
  const u64 status_at = chain->writable_bytes - 1;
  if (!write_segments(ram(), chain->writable, status_at, &outcome->status, 1))
    return needs_reset("a status outside memory");
  finish(queue, *chain, outcome->written + 1);
  signal(queue);
  if (waiting(queue))
    schedule(queue, now() + kNextNs + outcome->moved / kBytesPerNs);
  else if (running())
    rest(queue);
}

Result<VirtioBlk::Outcome> VirtioBlk::perform(const VirtioChain& chain) {
  Header h;
  if (!read_segments(ram(), chain.readable, 0, &h, sizeof h)) return Outcome{kIoError, 0, 0};
  const u64 out_bytes = chain.readable_bytes - sizeof h, in_bytes = chain.writable_bytes - 1;
  const auto in_range = [&](u64 bytes) {
    return bytes % kSector == 0 && h.sector <= sectors_ && bytes / kSector <= sectors_ - h.sector;
  };
  switch (h.type) {
    case kIn: {
      if (!in_range(in_bytes)) return Outcome{kIoError, 0, 0};
      std::vector<u8> data(in_bytes);
      DEJA_TRY(disk_.read(h.sector * kSector, data));
      if (!write_segments(ram(), chain.writable, 0, data.data(), in_bytes)) return Outcome{kIoError, 0, 0};
      return Outcome{kOk, static_cast<u32>(in_bytes), in_bytes};
    }
    case kOut: {
      if (config_.read_only || !in_range(out_bytes)) return Outcome{kIoError, 0, 0};
      std::vector<u8> data(out_bytes);
      if (!read_segments(ram(), chain.readable, sizeof h, data.data(), out_bytes))
        return Outcome{kIoError, 0, 0};
      DEJA_TRY(disk_.write(h.sector * kSector, data));
      return Outcome{kOk, 0, out_bytes};
    }
    case kFlushCache:
      return Outcome{kOk, 0, 0};  // every write is in the overlay already
    case kGetId: {
      u8 id[kIdSize] = {};
      std::memcpy(id, config_.serial.data(), std::min<std::size_t>(config_.serial.size(), kIdSize));
      const u64 n = std::min<u64>(in_bytes, kIdSize);
      if (!write_segments(ram(), chain.writable, 0, id, n)) return Outcome{kIoError, 0, 0};
      return Outcome{kOk, static_cast<u32>(n), 0};
    }
    default:
      return Outcome{kUnsupported, 0, 0};
  }
}

}  // namespace deja
