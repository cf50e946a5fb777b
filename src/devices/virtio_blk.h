// The virtio block device (virtio 1.2 section 5.2): one queue, one request at a time.
#pragma once

#include "devices/disk_overlay.h"
#include "devices/virtio_pci.h"

namespace deja {

class VirtioBlk final : public VirtioPci {
 public:
  static constexpr u64 kSector = 512;

  struct Config {
    std::string serial;  // at most 20 bytes
    bool read_only = false;
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

  const Config config_;
  const u64 sectors_;
  DiskOverlay& disk_;
  HostTrouble trouble_;
};

}  // namespace deja
