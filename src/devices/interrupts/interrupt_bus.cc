#include "devices/interrupts/interrupt_bus.h"

#include "base/check.h"
#include "base/log.h"
#include "devices/interrupts/i8259.h"
#include "devices/interrupts/ioapic.h"
#include "devices/interrupts/local_apic.h"

namespace deja {

void InterruptBus::attach(LocalApic* apic) {
  DEJA_CHECK(apics_.empty() || apics_.back()->id() < apic->id(), "local APICs out of order");
  apics_.push_back(apic);
}

void InterruptBus::attach(IoApic* ioapic) { ioapic_ = ioapic; }

void InterruptBus::attach(I8259* pic) { pic_ = pic; }

bool InterruptBus::send(const InterruptMessage& message) {
  if (message.mode == DeliveryMode::lowest_priority) {
    LocalApic* best = nullptr;
    for (LocalApic* a : apics_) {
      if (!a->accepts_fixed() || !a->is_destination(message)) continue;
      if (!best || a->arbitration_priority() < best->arbitration_priority()) best = a;
    }
    return best && best->receive(message);
  }
  bool taken = false;
  for (LocalApic* a : apics_)
    if (a->is_destination(message)) taken |= a->receive(message);
  return taken;
}

bool InterruptBus::send_ipi(const InterruptMessage& message, Shorthand shorthand, LocalApic* sender) {
  if (shorthand == Shorthand::none) return send(message);
  bool taken = false;
  for (LocalApic* a : apics_) {
    const bool self = a == sender;
    if (shorthand == Shorthand::all || self == (shorthand == Shorthand::self)) taken |= a->receive(message);
  }
  return taken;
}

void InterruptBus::send_msi(u64 address, u32 data) {
  if (address >> 20 != 0xfee) return log_info("devices", "interrupt message to {:#x} dropped", address);
  InterruptMessage m;
  m.mode = static_cast<DeliveryMode>(data >> 8 & 7);
  m.vector = static_cast<u8>(data);
  m.level = (data >> 14 & 3) == 3;  // level-triggered, and asserted
  m.logical = address >> 2 & 1;
  m.destination = address >> 12 & 0xff;
  send(m);
}

void InterruptBus::end_of_interrupt(u8 vector) {
  if (ioapic_) ioapic_->end_of_interrupt(vector);
}

u8 InterruptBus::acknowledge_8259() { return pic_ ? pic_->acknowledge() : 0xff; }

void InterruptBus::set_intr(bool level) {
  for (LocalApic* a : apics_) a->set_lint0(level);
  if (ioapic_) ioapic_->set_pin(0, level);
}

void InterruptBus::pulse_nmi() {
  for (LocalApic* a : apics_) {
    a->set_lint1(true);
    a->set_lint1(false);
  }
}

void InterruptBus::set_gsi(unsigned gsi, bool level) {
  if (ioapic_) ioapic_->set_pin(gsi, level);
}

IrqLine InterruptBus::isa_irq(unsigned irq) {
  DEJA_CHECK(irq < 16 && irq != 2, "ISA IRQ {}", irq);
  return [this, irq](bool level) {
    if (pic_) pic_->set_irq(irq, level);
    if (ioapic_) ioapic_->set_pin(irq == 0 ? 2 : irq, level);
  };
}

}  // namespace deja
