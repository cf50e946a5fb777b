// The virtio block device (virtio 1.2 section 5.2): one queue, one request at a time.
#pragma once

#include "devices/storage/disk_overlay.h"
#include "devices/virtio/virtio_pci.h"

namespace deja {

// In bytes; powers of two. The guest addresses and writes whole logical blocks, and does well to write whole
// physical ones.
struct BlockSizes {
  static constexpr u32 kSmallest = 512, kLargestLogical = 4096, kLargestPhysical = 65536;
  u32 logical = kSmallest;
  u32 physical = kSmallest;  // at least as large
  bool operator==(const BlockSizes&) const = default;
};

class VirtioBlk final : public VirtioPci {
 public:
  static constexpr u64 kSector =
      512;  // the unit of requests and of the capacity, whatever the block sizes are
  // The limit of one discard or write-zeroes request.
  static constexpr u32 kMaxZeroedSectors = 128_MiB / kSector;

  struct Config {
    std::string serial;  // at most 20 bytes
    bool read_only = false;
    BlockSizes blocks = {};
  };
  // The host cannot give what the image holds: the machine must stand still, and advance() be tried again.
  using HostTrouble = std::function<void(const Error&)>;

  VirtioBlk(std::string name, Config config, DiskOverlay& disk, VirtioWiring wiring, HostTrouble trouble);

 protected:
  void serve(unsigned queue) override;

 private:
  struct Outcome {
    u8 status;
    u32 written;  // bytes of the data part
    u64 moved;    // bytes that count for the time it takes
  };
  Result<Outcome> perform(const VirtioChain& chain);
  // A discard or, with `may_unmap`, a write-zeroes request.
  Result<Outcome> zero(const VirtioChain& chain, bool may_unmap);
  // Are these whole logical blocks of the disk?
  bool in_range(u64 sector, u64 bytes) const;

  const Config config_;
  const u64 sectors_;
  DiskOverlay& disk_;
  HostTrouble trouble_;
};

}  // namespace deja
