#include "machine/machine.h"
#include "machine/memory_map.h"

namespace deja {

// The PCI bus and what is on it. The random numbers' seed is that of the guest's kernel: one recorded input.
void Machine::build_pci_devices() {
  pci_host_ = std::make_unique<PciHost>(
      *reset_control_, [this](unsigned wire, bool level) { bus_.set_gsi(kPciGsiBase + wire, level); });
  pci_host_->attach(io_);
  pci_host_->attach_ecam(io_, kEcamBase);
  pci_host_->attach_window(io_, pci_mmio_start(*ram_), kPciGapStart - pci_mmio_start(*ram_));
  pci_host_->attach_window(io_, kPciGapEnd, kPciMmioEnd - kPciGapEnd);
  host_bridge_ = std::make_unique<PciHostBridge>([this](u8 byte) {
    if (guest_control_) guest_control_->take_byte(byte);
  });
  pci_host_->add(kHostBridgeSlot, 0, host_bridge_.get());
  isa_bridge_ = std::make_unique<PiixIsaBridge>();
  pci_host_->add(kIsaSlot, kIsaBridgeFunction, isa_bridge_.get());
  power_management_ = std::make_unique<PiixPowerManagement>(kPm1aEventPort);
  pci_host_->add(kIsaSlot, kPowerManagementFunction, power_management_.get());

  const VirtioWiring wiring{*ram_, *this, [this](u64 address, u32 data) { bus_.send_msi(address, data); }};
  rng_ = std::make_unique<VirtioRng>(config_.boot.rng_seed, wiring);
  pci_host_->add(kRngSlot, 0, rng_.get());
  if (config_.console) {
    console_ = std::make_unique<VirtioConsole>(wiring, [this](u8 byte) {
      if (console_out_) console_out_(byte);
    });
    pci_host_->add(kConsoleSlot, 0, console_.get());
  }
  if (config_.nic) {
    nic_ = std::make_unique<VirtioNet>("virtio_net", *config_.nic, wiring, [this](std::string_view frame) {
      if (frame_out_) frame_out_(frame);
    });
    pci_host_->add(kNicSlot, 0, nic_.get());
  }
  if (config_.screen) {
    screen_ = std::make_unique<BochsDisplay>(*config_.screen,
                                             [this](std::optional<u64> start) { move_screen_window(start); });
    pci_host_->add(kScreenSlot, 0, screen_.get());
  }
  for (unsigned i = 0; i < config_.drives.size(); ++i) {
    const DriveConfig& drive = config_.drives[i];
    overlays_.push_back(std::make_unique<DiskOverlay>(*drive.image));
    drives_.push_back(std::make_unique<VirtioBlk>(
        fmt::format("virtio_blk{}", i), VirtioBlk::Config{drive.serial, drive.read_only, drive.blocks},
        *overlays_.back(), wiring, [this](const Error& e) { trouble_ = e; }));
    pci_host_->add(kFirstDriveSlot + i, 0, drives_.back().get());
  }
}

// Only where BARs are decoded: the window must not hide memory or other devices.
void Machine::move_screen_window(std::optional<u64> start) {
  if (start && !in_pci_window(*ram_, *start, ram_->video_size())) start.reset();
  ram_->set_aperture(start);
  if (engine_) engine_->memory_map_changed();
}

}  // namespace deja
