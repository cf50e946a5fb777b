// PCI configuration space: functions, bus 0, and access through ports CF8h and CFCh (PCI Local Bus
// Specification 3.0, chapters 3.2.2.3.2 and 6).
#pragma once

#include <array>
#include <string>

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

  // Where a BAR is decoded now; kUnmapped while the command register disables it.
  static constexpr u64 kUnmapped = ~u64{0};
  u64 bar_address(unsigned bar) const;

 protected:
  // `size`: a power of two, at least 4 (io) or 16 bytes. A 64-bit BAR takes two slots.
  void add_bar(unsigned bar, BarKind kind, u64 size);
  // Makes bits of configuration space writable, or cleared by writing ones; `value` is their reset value.
  void add_register(unsigned offset, unsigned size, u32 value, u32 writable, u32 write_one_to_clear = 0);
  // The BAR moved, appeared or disappeared: bar_address() says where it is.
  virtual void bar_changed(unsigned bar) {}

  u32 config(unsigned offset, unsigned size) const;

 private:
  struct Bar {
    u64 size = 0;
    BarKind kind = BarKind::io;
  };

  void report_bar_changes();

  const std::string name_;
  std::array<u8, kConfigSize> reset_value_{}, writable_{}, write_one_to_clear_{};
  std::array<Bar, kBars> bars_{};
  std::array<u64, kBars> reported_;  // bar_address() as last told to bar_changed()
  std::array<u8, kConfigSize> config_{};
};

// Bus 0 and configuration mechanism #1.
class PciHost final : public Device, public PortDevice {
 public:
  static constexpr unsigned kSlots = 32;

  // `reset_control` answers byte accesses to CF9h.
  explicit PciHost(PortDevice& reset_control);
  void attach(IoBus& bus);  // ports CF8h..CFFh

  // Puts a function at slot.function on bus 0. The function is its owner's to add to the DeviceSet.
  void add(unsigned slot, unsigned function, PciFunction* device);

  std::string_view name() const override { return "pci_host"; }
  void reset() override { address_ = 0; }
  void save(StateWriter& w) const override { w.field(address_); }
  bool restore(StateReader& r) override;

  u32 port_read(u16 port, unsigned size) override;
  void port_write(u16 port, u32 value, unsigned size) override;

 private:
  PciFunction* selected() const;

  PortDevice& reset_control_;
  std::array<PciFunction*, kSlots * 8> functions_{};
  u32 address_ = 0;  // CONFIG_ADDRESS
};

// The host bridge that every bus 0 has as its first function: identified as an i440FX, without its memory
// mapping registers.
class PciHostBridge final : public PciFunction {
 public:
  PciHostBridge();
};

}  // namespace deja
