#include "devices/interrupts/ioapic.h"

#include "base/check.h"
#include "base/log.h"

namespace deja {
namespace {

// Window offsets.
constexpr u64 kIoRegSel = 0x00, kIoWin = 0x10, kEoi = 0x40;
// Register numbers.
constexpr u8 kId = 0, kVersion = 1, kArbitration = 2, kRedirection = 0x10;

constexpr u32 kVersionValue = (IoApic::kPins - 1) << 16 | 0x20;

// Redirection entry.
constexpr u64 kDeliveryStatus = 1 << 12;
constexpr u64 kRemoteIrr = 1 << 14;
constexpr u64 kLevel = 1 << 15;
constexpr u64 kMasked = 1 << 16;
constexpr u64 kReadOnly = kDeliveryStatus | kRemoteIrr;
constexpr u64 kWritable = 0xff00'0000'0001'ffff & ~kReadOnly;

template <class A, class S>
void serialize(A& a, S& s) {
  a.field(s.id), a.field(s.select), a.field(s.asserted), a.field(s.redirection);
}

}  // namespace

IoApic::IoApic(InterruptBus& bus) : bus_(bus) {
  bus.attach(this);
  reset();
}

void IoApic::reset() {
  s_.id = 0;
  s_.select = 0;
  s_.redirection.fill(kMasked);  // the wires keep their levels
}

void IoApic::save(StateWriter& w) const { serialize(w, s_); }

bool IoApic::restore(StateReader& r) {
  serialize(r, s_);
  bool ok = r.ok() && s_.id < 16 && s_.asserted >> kPins == 0;
  for (u64 entry : s_.redirection) ok = ok && !(entry & ~(kWritable | kRemoteIrr));
  if (!ok) {
    s_.asserted = 0;
    reset();
  }
  return ok;
}

u32 IoApic::read_register() const {
  switch (s_.select) {
    case kId:
    case kArbitration:
      return u32{s_.id} << 24;
    case kVersion:
      return kVersionValue;
    default:
      break;
  }
  if (s_.select < kRedirection || s_.select >= kRedirection + 2 * kPins) return 0;
  const u64 entry = s_.redirection[(s_.select - kRedirection) / 2];
  return static_cast<u32>(s_.select & 1 ? entry >> 32 : entry);
}

void IoApic::write_register(u32 value) {
  if (s_.select == kId) {
    s_.id = value >> 24 & 15;
    return;
  }
  if (s_.select < kRedirection || s_.select >= kRedirection + 2 * kPins) {
    log_info("devices", "ioapic: write of {:#x} to register {:#x} ignored", value, s_.select);
    return;
  }
  const unsigned pin = (s_.select - kRedirection) / 2;
  u64& entry = s_.redirection[pin];
  const u64 written =
      s_.select & 1 ? (entry & 0xffffffff) | u64{value} << 32 : (entry & ~u64{0xffffffff}) | value;
  entry = (written & kWritable) | (entry & kRemoteIrr);
  // An edge-triggered entry has no remote IRR. Linux ends a stuck level interrupt by switching to edge and
  // back.
  if (!(entry & kLevel)) entry &= ~kRemoteIrr;
  deliver_level(pin);
}

u64 IoApic::mmio_read(u64 offset, unsigned size) {
  if (offset == kIoRegSel) return s_.select;
  if (offset == kIoWin) return read_register();
  return 0;
}

void IoApic::mmio_write(u64 offset, u64 value, unsigned size) {
  if (offset == kIoRegSel) {
    s_.select = static_cast<u8>(value);
  } else if (offset == kIoWin && size >= 4) {
    write_register(static_cast<u32>(value));
  } else if (offset == kEoi) {
    end_of_interrupt(static_cast<u8>(value));
  } else {
    log_info("devices", "ioapic: {}-byte write at offset {:#x} ignored", size, offset);
  }
}

void IoApic::deliver(unsigned pin) {
  u64& entry = s_.redirection[pin];
  InterruptMessage m;
  m.vector = static_cast<u8>(entry);
  m.mode = static_cast<DeliveryMode>(entry >> 8 & 7);
  m.logical = entry >> 11 & 1;
  m.destination = static_cast<u32>(entry >> 56);
  const bool has_eoi = m.mode == DeliveryMode::fixed || m.mode == DeliveryMode::lowest_priority;
  m.level = has_eoi && (entry & kLevel);
  if (m.mode == DeliveryMode::startup || m.mode == DeliveryMode::remote_read) {
    log_info("devices", "ioapic: pin {}: reserved delivery mode {}", pin, static_cast<int>(m.mode));
    return;
  }
  // Set before sending: the message may reach a local APIC that ends the interrupt on the spot.
  if (m.level) entry |= kRemoteIrr;
  if (!bus_.send(m)) entry &= ~kRemoteIrr;  // nobody listens: tried again when something changes
}

// A level-triggered input sends one message, then waits for its EOI.
void IoApic::deliver_level(unsigned pin) {
  const u64 entry = s_.redirection[pin];
  if ((s_.asserted >> pin & 1) && (entry & (kLevel | kMasked | kRemoteIrr)) == kLevel) deliver(pin);
}

void IoApic::set_pin(unsigned pin, bool level) {
  DEJA_CHECK(pin < kPins, "pin {}", pin);
  const bool was = s_.asserted >> pin & 1;
  if (level == was) return;
  s_.asserted ^= u32{1} << pin;
  if (!level) return;
  if (s_.redirection[pin] & kLevel) {
    deliver_level(pin);
  } else if (!(s_.redirection[pin] & kMasked)) {
    deliver(pin);  // an edge that finds the entry masked is lost (82093AA 3.2.4)
  }
}

void IoApic::end_of_interrupt(u8 vector) {
  for (unsigned pin = 0; pin < kPins; pin++) {
    u64& entry = s_.redirection[pin];
    if (!(entry & kRemoteIrr) || static_cast<u8>(entry) != vector) continue;
    entry &= ~kRemoteIrr;
    deliver_level(pin);
  }
}

}  // namespace deja
