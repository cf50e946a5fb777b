#include "devices/virtio/virtio_blk.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace deja {
namespace {

constexpr u64 kSegMax = u64{1} << 2, kReadOnly = u64{1} << 5, kBlkSize = u64{1} << 6, kFlush = u64{1} << 9,
              kTopology = u64{1} << 10, kDiscard = u64{1} << 13, kWriteZeroes = u64{1} << 14;
constexpr u16 kQueueSize = 256;
constexpr u32 kSegments = kQueueSize - 2;  // without header and status

enum RequestType : u32 {
  kIn = 0,
  kOut = 1,
  kFlushCache = 4,
  kGetId = 8,
  kDiscardType = 11,
  kWriteZeroesType = 13
};
constexpr u8 kOk = 0, kIoError = 1, kUnsupported = 2;
constexpr u64 kIdSize = 20;

struct Header {
  u32 type;
  u32 reserved;
  u64 sector;
};

// The range that a discard or write-zeroes request names. A request has one: kMaxRanges.
struct ZeroRange {
  u64 sector;
  u32 sectors;
  u32 flags;
};
constexpr u32 kMaxRanges = 1, kUnmap = 1;

// How long it takes: like a fast solid-state disk. Part of the machine's behaviour.
constexpr VtimeNs kFirstNs = 20'000, kNextNs = 5'000;
constexpr u64 kBytesPerNs = 2, kZeroedBytesPerNs = 16;

// Section 5.2.4.
std::vector<u8> config_bytes(u64 sectors, const VirtioBlk::Config& config) {
  std::vector<u8> c(60);
  const auto put = [&](std::size_t at, auto value) { std::memcpy(&c[at], &value, sizeof value); };
  const auto& [logical, physical] = config.blocks;
  put(0, sectors);
  put(12, kSegments);
  put(20, logical);
  put(24, static_cast<u8>(std::countr_zero(physical / logical)));  // physical_block_exp
  if (config.read_only) return c;
  for (const std::size_t limits : {36, 48}) {  // of discard, of write zeroes
    put(limits, VirtioBlk::kMaxZeroedSectors);
    put(limits + 4, kMaxRanges);
  }
  put(44, static_cast<u32>(logical / VirtioBlk::kSector));  // discard_sector_alignment
  put(56, u8{1});                                           // write_zeroes_may_unmap
  return c;
}

u64 features_of(const VirtioBlk::Config& config) {
  return kSegMax | kBlkSize | kFlush | (config.read_only ? kReadOnly : kDiscard | kWriteZeroes) |
         (config.blocks.physical > config.blocks.logical ? kTopology : 0);
}

}  // namespace

VirtioBlk::VirtioBlk(std::string name, Config config, DiskOverlay& disk, VirtioWiring wiring,
                     HostTrouble trouble)
    : VirtioPci(std::move(name),
                {.virtio_id = 2,
                 .class_code = 0x010000,
                 .features = features_of(config),
                 .queues = {kQueueSize},
                 .config = config_bytes((disk.size() + kSector - 1) / kSector, config),
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
  switch (h.type) {
    case kIn: {
      if (!in_range(h.sector, in_bytes)) return Outcome{kIoError, 0, 0};
      std::vector<u8> data(in_bytes);
      DEJA_TRY(disk_.read(h.sector * kSector, data));
      if (!write_segments(ram(), chain.writable, 0, data.data(), in_bytes)) return Outcome{kIoError, 0, 0};
      return Outcome{kOk, static_cast<u32>(in_bytes), in_bytes};
    }
    case kOut: {
      if (config_.read_only || !in_range(h.sector, out_bytes)) return Outcome{kIoError, 0, 0};
      std::vector<u8> data(out_bytes);
      if (!read_segments(ram(), chain.readable, sizeof h, data.data(), out_bytes))
        return Outcome{kIoError, 0, 0};
      DEJA_TRY(disk_.write(h.sector * kSector, data));
      return Outcome{kOk, 0, out_bytes};
    }
    case kDiscardType:
      return zero(chain, false);
    case kWriteZeroesType:
      return zero(chain, true);
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

bool VirtioBlk::in_range(u64 sector, u64 bytes) const {
  const u64 logical = config_.blocks.logical;
  return bytes % logical == 0 && sector % (logical / kSector) == 0 && sector <= sectors_ &&
         bytes / kSector <= sectors_ - sector;
}

// Discarded blocks read as zeros, here and in every replay. Status as sections 5.2.6.1 and 5.2.6.2 have it.
Result<VirtioBlk::Outcome> VirtioBlk::zero(const VirtioChain& chain, bool may_unmap) {
  ZeroRange range;
  if (config_.read_only) return Outcome{kIoError, 0, 0};
  if (chain.readable_bytes != sizeof(Header) + sizeof range) return Outcome{kUnsupported, 0, 0};
  if (!read_segments(ram(), chain.readable, sizeof(Header), &range, sizeof range))
    return Outcome{kIoError, 0, 0};
  if (range.flags & ~(may_unmap ? kUnmap : 0)) return Outcome{kUnsupported, 0, 0};
  const u64 bytes = range.sectors * kSector;
  if (range.sectors > kMaxZeroedSectors || !in_range(range.sector, bytes)) return Outcome{kIoError, 0, 0};
  DEJA_TRY(disk_.write_zeros(range.sector * kSector, bytes));
  return Outcome{kOk, 0, bytes / (kZeroedBytesPerNs / kBytesPerNs)};
}

}  // namespace deja
