// How interrupts travel: messages between local APICs and the I/O APIC, and the wires from the 8259 and the
// ISA devices (SDM vol. 3A 10.6 and 10.8, the "system bus" of figure 10-2). Wiring, not state.
#pragma once

#include <vector>

#include "devices/device.h"

namespace deja {

class I8259;
class IoApic;
class LocalApic;

// Encoding of the delivery mode field of ICR, LVT and redirection entries.
enum class DeliveryMode : u8 {
  fixed = 0,
  lowest_priority = 1,
  smi = 2,
  remote_read = 3,  // reserved on every processor since the Pentium 4
  nmi = 4,
  init = 5,
  startup = 6,
  ext_int = 7,
};

struct InterruptMessage {
  DeliveryMode mode = DeliveryMode::fixed;
  u8 vector = 0;
  bool level = false;    // trigger mode: goes into TMR
  bool logical = false;  // destination mode
  bool wide = false;     // 32-bit x2APIC destination; otherwise 8 bits
  u32 destination = 0;
};

enum class Shorthand : u8 { none = 0, self = 1, all = 2, all_but_self = 3 };

class InterruptBus {
 public:
  // Called by the constructors of the chips. Local APICs are attached in the order of their APIC ids.
  void attach(LocalApic* apic);
  void attach(IoApic* ioapic);
  void attach(I8259* pic);

  // Delivers to every local APIC that the destination names; with lowest_priority to the one of them with the
  // lowest arbitration priority, ties going to the lowest APIC id (hardware leaves ties open; a fixed rule
  // keeps runs reproducible). False when no local APIC took the message.
  bool send(const InterruptMessage& message);
  bool send_ipi(const InterruptMessage& message, Shorthand shorthand, LocalApic* sender);

  // A message signalled interrupt: a write of `data` to `address` (SDM vol. 3A 10.11). Addresses that are no
  // local APIC's are dropped.
  void send_msi(u64 address, u32 data);

  // EOI message of a local APIC for a level-triggered vector.
  void end_of_interrupt(u8 vector);
  // INTA cycle answered by the 8259.
  u8 acknowledge_8259();
  // INTR output of the master 8259: wired to LINT0 of all local APICs and to pin 0 of the I/O APIC.
  void set_intr(bool level);
  // A pulse on the NMI wire, which is LINT1 of all local APICs.
  void pulse_nmi();

  // The wire of ISA interrupt `irq` (0..15, not 2): an input of the 8259 pair and of the I/O APIC, where IRQ
  // 0 arrives at pin 2, as the MADT's interrupt source override says.
  IrqLine isa_irq(unsigned irq);
  // An input of the I/O APIC alone.
  void set_gsi(unsigned gsi, bool level);

 private:
  std::vector<LocalApic*> apics_;
  IoApic* ioapic_ = nullptr;
  I8259* pic_ = nullptr;
};

}  // namespace deja
