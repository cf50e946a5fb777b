#include "devices/pci/pci_bus.h"

#include <bit>

#include "base/check.h"
#include "base/log.h"

namespace deja {
namespace {

constexpr unsigned kVendorId = 0x00, kDeviceId = 0x02, kCommand = 0x04, kStatus = 0x06, kRevision = 0x08,
                   kBar0 = 0x10, kSubsystemVendorId = 0x2c, kSubsystemId = 0x2e, kCapabilities = 0x34,
                   kInterruptLine = 0x3c, kInterruptPin = 0x3d;
constexpr u16 kIoSpace = 1, kMemorySpace = 2, kBusMaster = 4, kParityResponse = 0x40, kSerrEnable = 0x100,
              kInterruptDisable = 0x400;
constexpr u16 kStatusCapabilities = 0x10;
// Error bits of the status register, cleared by writing ones. Nothing sets them.
constexpr u16 kStatusErrors = 0xf900;

constexpr u16 kConfigAddress = 0xcf8, kConfigData = 0xcfc, kCf9 = 0xcf9;
constexpr u32 kConfigEnable = u32{1} << 31;
constexpr u32 kConfigAddressWritable = 0x80fffffc;

constexpr u32 low_bits(unsigned size) { return static_cast<u32>(~u64{0} >> (64 - 8 * size)); }

}  // namespace

PciFunction::PciFunction(std::string name, const Identity& id) : name_(std::move(name)) {
  add_register(kVendorId, 2, id.vendor, 0);
  add_register(kDeviceId, 2, id.device, 0);
  add_register(kRevision, 4, id.class_code << 8 | id.revision, 0);
  add_register(kSubsystemVendorId, 2, id.subsystem_vendor, 0);
  add_register(kSubsystemId, 2, id.subsystem, 0);
  add_register(kCommand, 2, 0,
               kIoSpace | kMemorySpace | kBusMaster | kParityResponse | kSerrEnable | kInterruptDisable);
  add_register(kStatus, 2, 0, 0, kStatusErrors);
  add_register(kInterruptLine, 1, 0, 0xff);
}

void PciFunction::add_register(unsigned offset, unsigned size, u32 value, u32 writable,
                               u32 write_one_to_clear) {
  DEJA_CHECK(offset + size <= kConfigSize && size <= 4);
  for (unsigned i = 0; i < size; i++) {
    config_[offset + i] = reset_value_[offset + i] = static_cast<u8>(value >> (8 * i));
    writable_[offset + i] = static_cast<u8>(writable >> (8 * i));
    write_one_to_clear_[offset + i] = static_cast<u8>(write_one_to_clear >> (8 * i));
  }
}

void PciFunction::add_bar(unsigned bar, BarKind kind, u64 size) {
  DEJA_CHECK(bar < kBars && std::has_single_bit(size) && size >= (kind == BarKind::io ? 4 : 16));
  bars_[bar] = {size, kind};
  const unsigned offset = kBar0 + 4 * bar;
  // The address bits below the size read as zero: that is how software finds the size.
  const u64 mask = ~(size - 1);
  switch (kind) {
    case BarKind::io:
      add_register(offset, 4, 1, static_cast<u32>(mask) & 0xffff);
      break;
    case BarKind::memory32:
      DEJA_CHECK(size <= 2_GiB);
      add_register(offset, 4, 0, static_cast<u32>(mask));
      break;
    case BarKind::memory64:
    case BarKind::memory64_prefetchable:
      DEJA_CHECK(bar + 1 < kBars);
      add_register(offset, 4, kind == BarKind::memory64 ? 4 : 12, static_cast<u32>(mask));
      add_register(offset + 4, 4, 0, static_cast<u32>(mask >> 32));
      break;
  }
}

unsigned PciFunction::add_capability(u8 id, const std::vector<u8>& body) {
  const unsigned offset = next_capability_;
  add_register(offset, 1, id, 0);
  add_register(offset + 1, 1, 0, 0);  // the last one so far
  for (unsigned i = 0; i < body.size(); i++) add_register(offset + 2 + i, 1, body[i], 0);
  add_register(last_capability_ ? last_capability_ + 1 : kCapabilities, 1, offset, 0);
  add_register(kStatus, 2, kStatusCapabilities, 0, kStatusErrors);
  last_capability_ = offset;
  next_capability_ = static_cast<unsigned>((offset + 2 + body.size() + 3) & ~std::size_t{3});
  DEJA_CHECK(next_capability_ <= kConfigSize);
  return offset;
}

void PciFunction::add_interrupt_pin() { add_register(kInterruptPin, 1, 1, 0); }

bool PciFunction::bus_master() const { return config(kCommand, 2) & kBusMaster; }

bool PciFunction::intx_disabled() const { return config(kCommand, 2) & kInterruptDisable; }

std::optional<u64> PciFunction::bar_address(unsigned bar) const {
  const Bar& b = bars_[bar];
  if (b.size == 0) return std::nullopt;
  const u32 command = config(kCommand, 2);
  const unsigned offset = kBar0 + 4 * bar;
  u64 address = config(offset, 4);
  if (!(command & (b.kind == BarKind::io ? kIoSpace : kMemorySpace))) return std::nullopt;
  if (b.kind == BarKind::io) return address & ~u64{3};
  if (b.kind != BarKind::memory32) address |= u64{config(offset + 4, 4)} << 32;
  return address & ~u64{15};
}

void PciFunction::report_bar_changes() {
  for (unsigned bar = 0; bar < kBars; bar++) {
    const std::optional<u64> address = bar_address(bar);
    if (address == reported_[bar]) continue;
    reported_[bar] = address;
    bar_changed(bar);
  }
}

void PciFunction::reset() {
  config_ = reset_value_;
  report_bar_changes();
}

void PciFunction::save(StateWriter& w) const { w.field(config_); }

bool PciFunction::restore(StateReader& r) {
  r.field(config_);
  bool ok = r.ok();
  // Bits that nothing can write are what they were at reset.
  for (unsigned i = 0; i < kConfigSize; i++)
    ok = ok && !((config_[i] ^ reset_value_[i]) & ~(writable_[i] | write_one_to_clear_[i]));
  if (!ok) {
    reset();
    return false;
  }
  report_bar_changes();
  return true;
}

u32 PciFunction::config(unsigned offset, unsigned size) const {
  u32 value = 0;
  for (unsigned i = 0; i < size; i++) value |= u32{config_[offset + i]} << (8 * i);
  return value;
}

u32 PciFunction::config_read(unsigned offset, unsigned size) const { return config(offset, size); }

void PciFunction::config_write(unsigned offset, u32 value, unsigned size) {
  for (unsigned i = 0; i < size; i++) {
    const unsigned at = offset + i;
    const u8 byte = static_cast<u8>(value >> (8 * i));
    config_[at] = static_cast<u8>((config_[at] & ~writable_[at]) | (byte & writable_[at]));
    config_[at] &= static_cast<u8>(~(byte & write_one_to_clear_[at]));
  }
  report_bar_changes();
}

PciHost::PciHost(PortDevice& reset_control, Wires wires)
    : reset_control_(reset_control), wires_(std::move(wires)) {}

void PciHost::attach(IoBus& bus) { bus.attach_ports(kConfigAddress, 8, this); }

void PciHost::attach_ecam(IoBus& bus, u64 base) { bus.attach_mmio(Gpa(base), kEcamSize, &ecam_); }

void PciHost::attach_window(IoBus& bus, u64 first, u64 size) {
  windows_.push_back(std::make_unique<Window>(*this, first));
  bus.attach_mmio(Gpa(first), size, windows_.back().get());
}

void PciHost::add(unsigned slot, unsigned function, PciFunction* device) {
  DEJA_CHECK(slot < kSlots && function < 8);
  PciFunction*& place = functions_[slot * 8 + function];
  DEJA_CHECK(!place, "slot {:02x}.{} is taken by {}", slot, function, place->name());
  place = device;
  present_.clear();
  for (PciFunction* f : functions_)
    if (f) present_.push_back(f);
  if (function == 0) device->connect_intx([this, slot](bool level) { set_intx(slot, level); });
}

void PciHost::set_intx(unsigned slot, bool level) {
  const u32 before = asserted_;
  asserted_ = (asserted_ & ~(u32{1} << slot)) | u32{level} << slot;
  constexpr u32 kEveryFourth = 0x11111111;
  const u32 others = kEveryFourth << slot % kPins;  // the slots that share the wire
  if (!!(before & others) != !!(asserted_ & others)) wires_(slot % kPins, level);
}

void PciHost::assign_bars(u64 first, u64 end) {
  u64 next = first;
  for (PciFunction* f : present_) {
    for (unsigned bar = 0; bar < PciFunction::kBars; bar++) {
      if (!f->bar_is_memory(bar)) continue;
      const u64 size = f->bar_size(bar);
      next = (next + size - 1) & ~(size - 1);
      DEJA_CHECK(next + size <= end, "no room for BAR {} of {}", bar, f->name());
      f->config_write(kBar0 + 4 * bar, static_cast<u32>(next), 4);
      next += size;
    }
  }
}

void PciHost::reset() {
  address_ = 0;
  for (unsigned slot = 0; slot < kSlots; slot++) set_intx(slot, false);
}

void PciHost::save(StateWriter& w) const {
  w.field(address_);
  w.field(asserted_);
}

bool PciHost::restore(StateReader& r) {
  r.field(address_);
  r.field(asserted_);
  if (r.ok() && !(address_ & ~kConfigAddressWritable)) return true;
  address_ = asserted_ = 0;
  return false;
}

PciFunction* PciHost::selected() const {
  if (!(address_ & kConfigEnable) || (address_ >> 16 & 0xff) != 0) return nullptr;
  return functions_[address_ >> 8 & 0xff];
}

// Configuration accesses do not cross a double word, and what is beyond the first 256 bytes reads as zero:
// no function has extended capabilities.
u64 PciHost::Ecam::mmio_read(u64 offset, unsigned size) {
  u64 value = 0;
  for (unsigned i = 0; i < size;) {
    const u64 at = offset + i;
    const unsigned piece = at % 4 == 0 && size - i >= 4 ? 4 : at % 2 == 0 && size - i >= 2 ? 2 : 1;
    const PciFunction* f = host.functions_[at >> 12];
    const unsigned reg = at & 0xfff;
    const u32 part = !f ? ~u32{0} : reg < PciFunction::kConfigSize ? f->config_read(reg, piece) : 0;
    value |= u64{part & low_bits(piece)} << (8 * i);
    i += piece;
  }
  return value;
}

void PciHost::Ecam::mmio_write(u64 offset, u64 value, unsigned size) {
  for (unsigned i = 0; i < size;) {
    const u64 at = offset + i;
    const unsigned piece = at % 4 == 0 && size - i >= 4 ? 4 : at % 2 == 0 && size - i >= 2 ? 2 : 1;
    PciFunction* f = host.functions_[at >> 12];
    const unsigned reg = at & 0xfff;
    if (f && reg < PciFunction::kConfigSize)
      f->config_write(reg, static_cast<u32>(value >> (8 * i)) & low_bits(piece), piece);
    i += piece;
  }
}

PciHost::Target PciHost::decode(u64 address, unsigned size) const {
  for (PciFunction* f : present_) {
    for (unsigned bar = 0; bar < PciFunction::kBars; bar++) {
      if (!f->bar_is_memory(bar)) continue;
      const std::optional<u64> start = f->bar_address(bar);
      if (!start || address < *start) continue;
      const u64 offset = address - *start;
      if (offset < f->bar_size(bar) && size <= f->bar_size(bar) - offset) return {f, bar, offset};
    }
  }
  return {};
}

u64 PciHost::Window::mmio_read(u64 offset, unsigned size) {
  const Target t = host.decode(first + offset, size);
  if (t.function) return t.function->bar_read(t.bar, t.offset, size);
  log_debug("devices", "read of {} bytes at {:#x}: no BAR there", size, first + offset);
  return ~u64{0};
}

void PciHost::Window::mmio_write(u64 offset, u64 value, unsigned size) {
  const Target t = host.decode(first + offset, size);
  if (t.function) return t.function->bar_write(t.bar, t.offset, value, size);
  log_debug("devices", "write of {} bytes at {:#x}: no BAR there", size, first + offset);
}

// CONFIG_ADDRESS is only there for 32-bit accesses; others pass through to what lies behind (3.2.2.3.2).
u32 PciHost::port_read(u16 port, unsigned size) {
  if (port < kConfigData) {
    if (port == kConfigAddress && size == 4) return address_;
    if (port == kCf9 && size == 1) return reset_control_.port_read(port, size);
    return low_bits(size);
  }
  const unsigned byte = port - kConfigData;
  const PciFunction* f = selected();
  if (!f || byte + size > 4) return low_bits(size);
  return f->config_read((address_ & 0xfc) + byte, size) & low_bits(size);
}

void PciHost::port_write(u16 port, u32 value, unsigned size) {
  if (port < kConfigData) {
    if (port == kConfigAddress && size == 4) {
      address_ = value & kConfigAddressWritable;
    } else if (port == kCf9 && size == 1) {
      reset_control_.port_write(port, value, size);
    } else {
      log_debug("devices", "pci_host: {}-byte write to port {:#x} ignored", size, port);
    }
    return;
  }
  const unsigned byte = port - kConfigData;
  PciFunction* f = selected();
  if (f && byte + size <= 4) f->config_write((address_ & 0xfc) + byte, value & low_bits(size), size);
}

PciHostBridge::PciHostBridge(TakeByte take_text)
    : PciFunction("pci_host_bridge", {0x8086, 0x1237, 0x060000, 2, 0x1af4, 0x1100}),
      take_text_(std::move(take_text)) {
  constexpr unsigned kPam0 = 0x59, kPamRegisters = 7;
  for (unsigned i = 0; i < kPamRegisters; ++i) add_register(kPam0 + i, 1, 0, 0x33);
}

void PciHostBridge::config_write(unsigned offset, u32 value, unsigned size) {
  PciFunction::config_write(offset, value, size);
  if (offset < kTextWindow || !take_text_) return;
  for (unsigned i = 0; i < size; ++i) take_text_(static_cast<u8>(value >> (8 * i)));
}

}  // namespace deja
