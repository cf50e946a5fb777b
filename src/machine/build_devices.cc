// Every device of the machine, in the order of saved bytes and of simultaneous events. This is the one place
// that knows them all: a device is made, connected and listed by one statement.
#include "devices/fw_cfg.h"
#include "devices/i8254.h"
#include "devices/interrupts/i8259.h"
#include "devices/interrupts/ioapic.h"
#include "devices/pci/piix.h"
#include "devices/virtio/virtio_rng.h"
#include "machine/firmware.h"
#include "machine/machine.h"
#include "machine/memory_map.h"

namespace deja {

template <class D, class... Args>
D* Machine::add_device(Args&&... args) {
  auto device = std::make_unique<D>(std::forward<Args>(args)...);
  D* const made = device.get();
  devices_.add(made);
  owned_devices_.push_back(std::move(device));
  return made;
}

void Machine::build_devices() {
  build_local_apics();
  build_isa_devices();
  build_pci_bus();
  build_pci_devices();
  if (config_.boot.firmware) {
    std::vector<unsigned> boot_slots;
    for (unsigned i = 0; i < config_.drives.size(); ++i) boot_slots.push_back(kFirstDriveSlot + i);
    add_device<FwCfg>(firmware_items(*ram_, {config_.vcpus, pci_mmio_start(*ram_), true}, boot_slots), *ram_,
                      time())
        ->attach(io_, kFwCfgPort);
  }
  if (config_.guest_control != GuestControlRights::none) {
    guest_control_ = add_device<GuestControl>(kGuestControlPort, time(),
                                              config_.guest_control == GuestControlRights::marks,
                                              [this](const GuestCommand& command) { obey(command); });
    guest_control_->attach(io_);
  }
  build_drives();
  // It has no state: the machine ends when it is written to.
  debug_exit_ = std::make_unique<DebugExit>([this](u32 status) { end(MachineEnd::debug_exit, status); });
  debug_exit_->attach(io_, kDebugExitPort);
}

void Machine::build_local_apics() {
  for (unsigned i = 0; i < config_.vcpus; ++i) {
    LocalApicSignals signals;
    signals.nmi = [this, i] { signals_[i].nmi = true; };
    signals.init = [this, i] { signals_[i].init = true; };
    signals.startup = [this, i](u8 vector) {
      signals_[i].sipi = true;
      signals_[i].vector = vector;
    };
    signals.tsc_adjust = [this, i] {
      return engine_ && engine_->running(i) ? engine_->live_state().msr.tsc_adjust : cpus_[i].msr.tsc_adjust;
    };
    const LocalApicConfig config{i, model_.tsc_hz, model_.crystal_hz};
    apics_.push_back(add_device<LocalApic>(config, time(), bus_, std::move(signals)));
  }
}

void Machine::build_isa_devices() {
  const auto reset_machine = [this] { reset_pending_ = true; };
  io_.attach_mmio(Gpa(kIoapicBase), kIoapicSize, add_device<IoApic>(bus_));
  add_device<I8259>(bus_)->attach(io_);
  add_device<I8254>(time(), bus_.isa_irq(kPitIrq))->attach(io_);
  rtc_ = add_device<Mc146818>(time(), bus_.isa_irq(kRtcIrq), [this] { acpi_pm_->rtc_alarm(); });
  rtc_->attach(io_);
  uart_ = add_device<Uart16550>("uart0", kCom1Port, time(), bus_.isa_irq(kCom1Irq), [this](u8 byte) {
    if (serial_out_) serial_out_(byte);
  });
  uart_->attach(io_);
  acpi_pm_ = add_device<AcpiPm>(kPm1aEventPort, kSleepTypeS5, time(), bus_.isa_irq(kSciIrq),
                                [this] { end(MachineEnd::power_off); });
  acpi_pm_->attach(io_);
  i8042_ = add_device<I8042>(bus_.isa_irq(kKeyboardIrq), bus_.isa_irq(kMouseIrq), reset_machine);
  i8042_->attach(io_);
  reset_control_ = add_device<ResetControl>(reset_machine);
  reset_control_->attach(io_);
}

void Machine::build_pci_bus() {
  pci_host_ = add_device<PciHost>(
      *reset_control_, [this](unsigned wire, bool level) { bus_.set_gsi(kPciGsiBase + wire, level); });
  pci_host_->attach(io_);
  pci_host_->attach_ecam(io_, kEcamBase);
  pci_host_->attach_window(io_, pci_mmio_start(*ram_), kPciGapStart - pci_mmio_start(*ram_));
  pci_host_->attach_window(io_, kPciGapEnd, kPciMmioEnd - kPciGapEnd);
  pci_host_->add(kHostBridgeSlot, 0, add_device<PciHostBridge>([this](u8 byte) {
                   if (guest_control_) guest_control_->take_byte(byte);
                 }));
  pci_host_->add(kIsaSlot, kIsaBridgeFunction, add_device<PiixIsaBridge>());
  pci_host_->add(kIsaSlot, kPowerManagementFunction, add_device<PiixPowerManagement>(kPm1aEventPort));
}

VirtioWiring Machine::virtio_wiring() {
  return {*ram_, time(), [this](u64 address, u32 data) { bus_.send_msi(address, data); }};
}

// The random numbers' seed is that of the guest's kernel: one recorded input.
void Machine::build_pci_devices() {
  pci_host_->add(kRngSlot, 0, add_device<VirtioRng>(config_.boot.rng_seed, virtio_wiring()));
  if (config_.console) {
    console_ = add_device<VirtioConsole>(virtio_wiring(), [this](u8 byte) {
      if (console_out_) console_out_(byte);
    });
    pci_host_->add(kConsoleSlot, 0, console_);
  }
  if (config_.nic) {
    nic_ = add_device<VirtioNet>("virtio_net", *config_.nic, virtio_wiring(), [this](std::string_view frame) {
      if (frame_out_) frame_out_(frame);
    });
    pci_host_->add(kNicSlot, 0, nic_);
  }
  if (config_.screen) {
    screen_ = add_device<BochsDisplay>(*config_.screen,
                                       [this](std::optional<u64> start) { move_screen_window(start); });
    pci_host_->add(kScreenSlot, 0, screen_);
  }
}

void Machine::build_drives() {
  for (unsigned i = 0; i < config_.drives.size(); ++i) {
    const DriveConfig& drive = config_.drives[i];
    overlays_.push_back(std::make_unique<DiskOverlay>(*drive.image));
    pci_host_->add(
        kFirstDriveSlot + i, 0,
        add_device<VirtioBlk>(fmt::format("virtio_blk{}", i),
                              VirtioBlk::Config{drive.serial, drive.read_only, drive.blocks},
                              *overlays_.back(), virtio_wiring(), [this](const Error& e) { trouble_ = e; }));
  }
}

// Only where BARs are decoded: the window must not hide memory or other devices.
void Machine::move_screen_window(std::optional<u64> start) {
  if (start && !in_pci_window(*ram_, *start, ram_->video_size())) start.reset();
  ram_->set_aperture(start);
  if (engine_) engine_->memory_map_changed();
}

}  // namespace deja
