// A whole virtual machine: RAM, vCPUs, devices, and the clock that drives them. Nothing in it looks at the
// host: what it does from power-on is a function of its configuration and of the inputs it is given, each at
// its step.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/acpi_pm.h"
#include "devices/bochs_display.h"
#include "devices/debug_exit.h"
#include "devices/device_set.h"
#include "devices/guest_control.h"
#include "devices/i8042.h"
#include "devices/interrupts/interrupt_bus.h"
#include "devices/interrupts/local_apic.h"
#include "devices/io_bus.h"
#include "devices/mc146818.h"
#include "devices/pci/pci_bus.h"
#include "devices/reset_control.h"
#include "devices/storage/block_image.h"
#include "devices/storage/disk_overlay.h"
#include "devices/uart16550.h"
#include "devices/virtio/virtio_blk.h"
#include "devices/virtio/virtio_console.h"
#include "devices/virtio/virtio_net.h"
#include "execute/engine.h"
#include "machine/behaviour.h"
#include "machine/boot.h"
#include "machine/turn_chaos.h"

namespace deja {

struct DriveConfig {
  std::shared_ptr<BlockImage> image;  // what the disk holds at power-on
  bool read_only = false;
  std::string serial;  // its name for the guest, at most 20 bytes
  BlockSizes blocks;
};

// What programs in the guest may ask of DejaVM (devices/guest_control.h).
enum class GuestControlRights : u8 { none, marks, all };

struct MachineConfig {
  u32 behaviour = kMachineBehaviour;  // what may ask for it: machine/behaviour.h
  u64 ram_bytes = 512_MiB;
  unsigned vcpus = 1;
  std::string cpu = "x86-64-v3";
  u32 clock_rate_num = 1, clock_rate_den = 1;  // nanoseconds per step
  u64 quantum = 200'000;                       // steps a vCPU runs before the next one gets its turn
  std::optional<u64> chaos_seed;               // turns as TurnChaos draws them from it
  i64 rtc_unix_seconds = 0;
  std::vector<DriveConfig> drives;   // virtio disks, at most kMaxDrives
  std::optional<MacAddress> nic;     // a virtio network card
  bool console = false;              // a virtio console
  std::optional<ScreenSize> screen;  // a framebuffer
  GuestControlRights guest_control = GuestControlRights::all;
  bool reboot = true;  // a reset starts the guest again; false: it ends the run
  BootConfig boot;     // refers to bytes that must outlive the machine
};

enum class MachineEnd : u8 { none, power_off, reset, debug_exit, triple_fault, guest_exit };

struct MachineDigest {
  u64 cpu = 0, ram = 0, devices = 0;
  bool operator==(const MachineDigest&) const = default;
};

// A machine at rest (Machine::run has just come to the present step), but for its RAM.
struct MachineState {
  std::vector<u8> cpus, devices;
  std::vector<DiskOverlay::Snapshot> disks;  // by drive
};

enum class MachineStop : u8 {
  until,     // clock().steps == until
  idle,      // every vCPU waits for an interrupt, and none is due now
  command,   // a program in the guest has asked for something: on_command() has been told
  observed,  // something that Engine::observe asked for: before it goes on, take it from
             // Engine::observation()
  ended,
  trouble,  // the host cannot give what a disk image holds: see trouble(); run() tries again
};

class Machine final : public Platform, private TimeSource {
 public:
  static Result<std::unique_ptr<Machine>> create(const MachineConfig& config, const EngineOptions& engine);

  const Clock& clock() const { return clock_; }
  VtimeNs now() const override { return clock_.now(); }
  const MachineConfig& config() const { return config_; }

  // Runs to step `until` exactly, or stops earlier when idle or ended.
  MachineStop run(Step until);
  // When idle: virtual time of the next event, kNeverNs when only an input can wake the machine.
  VtimeNs next_deadline() const { return devices_.next_event(); }
  // When idle: one step in which `ns` nanoseconds pass; not beyond next_deadline().
  void warp(u64 ns);
  // The length of the warp that ends at next_deadline().
  u64 warp_to_deadline() const;

  // Steps in which a vCPU stood still (TurnChaos), since power-on.
  u64 stalls() const { return stalls_; }

  // Inputs reach their device at the present step.
  std::size_t serial_room() const { return uart_->room(); }
  void serial_receive(u8 byte) { uart_->receive(byte); }
  void serial_break() { uart_->receive_break(); }
  void power_button() { acpi_pm_->power_button(); }
  void nmi_button() { bus_.pulse_nmi(); }
  void keys(std::string_view codes) { i8042_->type(codes); }
  void reset_button() { reset_pending_ = true; }

  std::size_t console_room() const { return console_ ? console_->room() : 0; }
  void console_receive(u8 byte) {
    if (console_) console_->receive(byte);
  }
  std::size_t frame_room() const { return nic_ ? nic_->room() : 0; }
  void frame_receive(std::string_view frame) {
    if (nic_) nic_->receive(frame);
  }

  // Called with every byte, or frame, that the guest transmits. Must not touch the machine.
  void on_serial(std::function<void(u8)> f) { serial_out_ = std::move(f); }
  void on_console(std::function<void(u8)> f) { console_out_ = std::move(f); }
  void on_frame(std::function<void(std::string_view)> f) { frame_out_ = std::move(f); }

  // Called with what programs in the guest ask of DejaVM, in the middle of the instruction that does. run()
  // comes back after that instruction. Must not touch the machine.
  void on_command(std::function<void(const GuestCommand&)> f) { command_ = std::move(f); }

  // What made run() return `trouble`. The state is as it was before the request that needs the host.
  const std::optional<Error>& trouble() const { return trouble_; }

  bool has_screen() const { return screen_ != nullptr; }
  // What the screen shows; its pixels stand in ram() from kVideoMemory + offset. Nothing: it is off.
  std::optional<ScreenMode> screen_mode() const { return screen_ ? screen_->mode() : std::nullopt; }

  // What was written to the disks: state like RAM, not part of save_devices().
  unsigned drive_count() const { return static_cast<unsigned>(overlays_.size()); }
  DiskOverlay& drive(unsigned i) { return *overlays_[i]; }

  MachineEnd end() const { return end_; }
  // debug_exit: (value << 1) | 1; guest_exit: the status that it asked for
  u32 exit_status() const { return exit_status_; }
  u64 resets() const { return resets_; }

  // Digest of everything, and the parts it is made of. RAM is rehashed where it was written since the last
  // call.
  MachineDigest digest();
  // Everything but RAM, as bytes (for digests, divergence reports, checkpoints).
  std::vector<u8> save_cpus() const;
  std::vector<u8> save_devices() const;
  std::vector<DiskOverlay::Snapshot> save_disks();
  // Brings a machine of the same configuration into a saved state. Whatever its RAM held at that moment must
  // be put back through ram(), before or after. An error: these are not the bytes of such a machine, which is
  // then of no further use until another restore succeeds.
  Status restore(const MachineState& state);

  GuestRam& ram() { return *ram_; }
  const GuestRam& ram() const { return *ram_; }
  const CpuState& cpu(unsigned i) const { return cpus_[i]; }
  unsigned vcpu_count() const { return static_cast<unsigned>(cpus_.size()); }
  // The vCPU whose instruction comes next; none while all are idle.
  std::optional<unsigned> next_vcpu() const;
  // Where the turn of the vCPU that ran last ends, if nothing ends it earlier. One vCPU alone takes no turns.
  Step turn_end() const { return takes_turns() ? quantum_end_ : kNeverStep; }
  // The last step that was this vCPU's, of those that this object has run; kNeverStep: none. History, not
  // state.
  Step last_ran(unsigned vcpu) const { return last_ran_[vcpu]; }
  Engine& engine() { return *engine_; }

  // Platform
  u32 port_read(u16 port, unsigned size) override { return io_.port_read(port, size); }
  void port_write(u16 port, u32 value, unsigned size) override { io_.port_write(port, value, size); }
  u64 mmio_read(unsigned vcpu, Gpa address, unsigned size) override;
  void mmio_write(unsigned vcpu, Gpa address, u64 value, unsigned size) override;
  u64 cr8_read(unsigned vcpu) override { return apics_[vcpu]->read_cr8(); }
  void cr8_write(unsigned vcpu, u64 value) override { apics_[vcpu]->write_cr8(value); }
  bool apic_msr_read(unsigned vcpu, u32 msr, u64* value) override {
    return apics_[vcpu]->msr_read(msr, value);
  }
  bool apic_msr_write(unsigned vcpu, u32 msr, u64 value) override {
    return apics_[vcpu]->msr_write(msr, value);
  }
  void apic_base_written(unsigned vcpu, u64 value) override { apics_[vcpu]->write_apic_base(value); }
  bool interrupt_pending(unsigned vcpu) override { return apics_[vcpu]->pending(); }
  int acknowledge_interrupt(unsigned vcpu) override { return apics_[vcpu]->acknowledge(); }
  u64 tsc() override;
  GuestCallAnswer guest_call(std::string_view line) override;
  std::optional<Step> go_on(CpuState& cpu, bool spins) override;

 private:
  Machine(const MachineConfig& config, CpuModel model) : config_(config), model_(std::move(model)) {
    if (config.chaos_seed) chaos_.emplace(*config.chaos_seed);
  }
  Status init(const EngineOptions& engine);
  Status power_on();
  // In build_devices.cc.
  template <class D, class... Args>
  D* add_device(Args&&... args);
  const TimeSource& time() const { return *this; }
  void build_devices();
  void build_local_apics();
  void build_isa_devices();
  void build_pci_bus();
  VirtioWiring virtio_wiring();
  void build_pci_devices();
  void build_drives();
  void move_screen_window(std::optional<u64> start);
  void do_reset();
  // Hands vCPU `i` the signals that wait for it, and wakes it if something is due. Doing it twice is doing it
  // once.
  void settle(unsigned i);
  // Has it anything to do?
  bool unsettled(unsigned i) const;
  bool wakes(unsigned i) const;
  // A turn of the vCPU begins, whose state is `cpu`.
  void begin_turn(unsigned vcpu, CpuState& cpu);
  // The step until which it runs when nothing comes up.
  Step stretch_end(VtimeNs next_event) const;
  bool stall(u64 ns);
  // Does a vCPU's turn end although it could go on?
  bool takes_turns() const { return cpus_.size() > 1 || chaos_; }
  void end(MachineEnd why, u32 status = 0);
  void obey(const GuestCommand& command);
  Status restore_cpus(const std::vector<u8>& bytes);
  Status restore_devices(const std::vector<u8>& bytes);

  MachineConfig config_;
  const CpuModel model_;
  std::optional<TurnChaos> chaos_;
  Clock clock_;
  std::unique_ptr<GuestRam> ram_;
  std::unique_ptr<Engine> engine_;
  std::vector<CpuState> cpus_;
  unsigned current_ = 0;  // whose turn it is
  Step quantum_end_ = 0;
  u64 stalls_ = 0;
  Step until_ = 0;  // of the run() in progress
  struct Signals {
    bool nmi = false, init = false, sipi = false;
    u8 vector = 0;
  };
  std::vector<Step> last_ran_;
  std::vector<Signals> signals_;  // from the APICs to the vCPUs, applied between instructions

  IoBus io_;
  InterruptBus bus_;
  DeviceSet devices_;
  std::vector<std::unique_ptr<DiskOverlay>> overlays_;  // by drive
  std::vector<std::unique_ptr<Device>> owned_devices_;  // as in devices_
  std::unique_ptr<DebugExit> debug_exit_;
  // Those of owned_devices_ that inputs and the machine itself reach; null: the machine has none.
  std::vector<LocalApic*> apics_;
  Mc146818* rtc_ = nullptr;
  Uart16550* uart_ = nullptr;
  AcpiPm* acpi_pm_ = nullptr;
  I8042* i8042_ = nullptr;
  ResetControl* reset_control_ = nullptr;
  GuestControl* guest_control_ = nullptr;
  PciHost* pci_host_ = nullptr;
  BochsDisplay* screen_ = nullptr;
  VirtioConsole* console_ = nullptr;
  VirtioNet* nic_ = nullptr;

  std::function<void(u8)> serial_out_, console_out_;
  std::function<void(std::string_view)> frame_out_;
  std::function<void(const GuestCommand&)> command_;
  bool commanded_ = false;  // since run() has last come back
  std::optional<Error> trouble_;
  bool reset_pending_ = false;
  u64 resets_ = 0;
  MachineEnd end_ = MachineEnd::none;
  u32 exit_status_ = 0;
};

}  // namespace deja
