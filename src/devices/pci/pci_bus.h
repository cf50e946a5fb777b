// PCI: functions with their configuration space and memory windows; bus 0 with its two ways to configuration
// space, ports CF8h and CFCh (PCI Local Bus Specification 3.0, chapters 3.2.2.3.2 and 6) and the
// memory-mapped one (PCI Express Base Specification 4.0, chapter 7.2.2).
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/device.h"
#include "devices/io_bus.h"

namespace deja {

enum class BarKind : u8 { io, memory32, memory64, memory64_prefetchable };

// One function: 256 bytes of configuration space with per-bit write rules. Derived classes fill in the header
// in their constructors and save their own state after that of the base.
class PciFunction : public Device {
 public:
  static constexpr unsigned kConfigSize = 256;
  static constexpr unsigned kBars = 6;

  struct Identity {
    u16 vendor, device;
    u32 class_code;  // 24 bits: class, subclass, programming interface
    u8 revision = 0;
    u16 subsystem_vendor = 0, subsystem = 0;
  };

  PciFunction(std::string name, const Identity& identity);

  std::string_view name() const override { return name_; }
  void reset() override;
  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;

  // offset + size <= 256, not crossing a double word.
  virtual u32 config_read(unsigned offset, unsigned size) const;
  virtual void config_write(unsigned offset, u32 value, unsigned size);

  // Where a BAR is to be decoded now, anywhere in 64 bits; nowhere while the command register disables it.
  // The bus, or the machine, decides what of that is in its windows.
  std::optional<u64> bar_address(unsigned bar) const;
  u64 bar_size(unsigned bar) const { return bars_[bar].size; }
  bool bar_is_memory(unsigned bar) const { return bars_[bar].size && bars_[bar].kind != BarKind::io; }
  // Accesses to a memory BAR; `offset` + `size` is within it, size 1 to 8.
  virtual u64 bar_read(unsigned bar, u64 offset, unsigned size) { return ~u64{0}; }
  virtual void bar_write(unsigned bar, u64 offset, u64 value, unsigned size) {}

  // The function's INTA# pin, wired by PciHost::add.
  void connect_intx(IrqLine line) { intx_ = std::move(line); }

 protected:
  // `size`: a power of two, at least 4 (io) or 16 bytes. A 64-bit BAR takes two slots.
  void add_bar(unsigned bar, BarKind kind, u64 size);
  // Makes bits of configuration space writable, or cleared by writing ones; `value` is their reset value.
  void add_register(unsigned offset, unsigned size, u32 value, u32 writable, u32 write_one_to_clear = 0);
  // The BAR moved, appeared or disappeared: bar_address() says where it is.
  virtual void bar_changed(unsigned bar) {}

  // Appends a capability to the list; `body` is what follows its two header bytes. Returns its offset.
  unsigned add_capability(u8 id, const std::vector<u8>& body);
  // Gives the function an interrupt pin, INTA#.
  void add_interrupt_pin();

  u32 config(unsigned offset, unsigned size) const;
  // May the function read and write memory, and send interrupt messages?
  bool bus_master() const;
  bool intx_disabled() const;
  void drive_intx(bool level) {
    if (intx_) intx_(level);
  }

 private:
  struct Bar {
    u64 size = 0;
    BarKind kind = BarKind::io;
  };

  void report_bar_changes();

  const std::string name_;
  std::array<u8, kConfigSize> reset_value_{}, writable_{}, write_one_to_clear_{};
  std::array<Bar, kBars> bars_{};
  std::array<std::optional<u64>, kBars> reported_{};  // bar_address() as last told to bar_changed()
  std::array<u8, kConfigSize> config_{};
  unsigned last_capability_ = 0, next_capability_ = 0x40;
  IrqLine intx_;
};

// Bus 0, the only one.
class PciHost final : public Device, public PortDevice {
 public:
  static constexpr unsigned kSlots = 32;
  static constexpr unsigned kPins = 4;
  // Wires PIRQA to PIRQD: what slot s drives with INTA# arrives at wire s % 4.
  using Wires = std::function<void(unsigned wire, bool level)>;

  // `reset_control` answers byte accesses to CF9h.
  PciHost(PortDevice& reset_control, Wires wires);
  void attach(IoBus& bus);  // ports CF8h..CFFh
  // The memory-mapped configuration space: 1 MiB for bus 0.
  static constexpr u64 kEcamSize = 1_MiB;
  void attach_ecam(IoBus& bus, u64 base);
  // A range of addresses in which BARs are decoded.
  void attach_window(IoBus& bus, u64 first, u64 size);

  // Puts a function at slot.function on bus 0. The function is its owner's to add to the DeviceSet.
  void add(unsigned slot, unsigned function, PciFunction* device);

  // Gives every memory BAR an address from `first` up, in order of slots, as firmware does at power-on. They
  // are not decoded before a driver enables that.
  void assign_bars(u64 first, u64 end);

  std::string_view name() const override { return "pci_host"; }
  void reset() override;
  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;

  u32 port_read(u16 port, unsigned size) override;
  void port_write(u16 port, u32 value, unsigned size) override;

 private:
  struct Ecam final : MmioDevice {
    explicit Ecam(PciHost& h) : host(h) {}
    u64 mmio_read(u64 offset, unsigned size) override;
    void mmio_write(u64 offset, u64 value, unsigned size) override;
    PciHost& host;
  };
  struct Window final : MmioDevice {
    Window(PciHost& h, u64 f) : host(h), first(f) {}
    u64 mmio_read(u64 offset, unsigned size) override;
    void mmio_write(u64 offset, u64 value, unsigned size) override;
    PciHost& host;
    u64 first;
  };
  struct Target {
    PciFunction* function = nullptr;
    unsigned bar = 0;
    u64 offset = 0;
  };

  PciFunction* selected() const;
  // The BAR that holds the whole access.
  Target decode(u64 address, unsigned size) const;
  void set_intx(unsigned slot, bool level);

  PortDevice& reset_control_;
  Wires wires_;
  Ecam ecam_{*this};
  std::vector<std::unique_ptr<Window>> windows_;
  std::array<PciFunction*, kSlots * 8> functions_{};
  std::vector<PciFunction*> present_;  // in order of slots
  u32 address_ = 0;                    // CONFIG_ADDRESS
  u32 asserted_ = 0;                   // slots that drive INTA#
};

// The host bridge that every bus 0 has as its first function: identified as an i440FX on QEMU's board, which
// is how firmware for virtual machines knows what it runs on. Its memory mapping registers (PAM) can be
// written, and change nothing: what they would uncover below 1 MiB is RAM all the time.
class PciHostBridge final : public PciFunction {
 public:
  // The bridge's configuration space has a window into which a program in the guest writes text for DejaVM
  // (guest_control.h), since every Linux lets root write there by /sys/bus/pci/devices/0000:00:00.0/config,
  // while many have no /dev/port.
  static constexpr unsigned kTextWindow = 0xa0;
  using TakeByte = std::function<void(u8)>;

  // `take_text` may be empty.
  explicit PciHostBridge(TakeByte take_text = {});
  void config_write(unsigned offset, u32 value, unsigned size) override;

 private:
  const TakeByte take_text_;
};

}  // namespace deja
