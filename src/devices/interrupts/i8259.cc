#include "devices/interrupts/i8259.h"

#include "base/check.h"

namespace deja {
namespace {

constexpr unsigned kMaster = 0, kSlave = 1;
constexpr unsigned kCascadeInput = 2;
constexpr unsigned kNone = 8;  // "no priority": below all eight
// Inputs that may be level-triggered; the timer, keyboard, cascade, RTC and FPU are wired for edges
// (PIIX3 2.5.5).
constexpr u8 kElcrWritable[2] = {0xf8, 0xde};

template <class A, class S>
void serialize(A& a, S& s) {
  for (auto& c : s.chip) {
    a.field(c.lines), a.field(c.irr), a.field(c.imr), a.field(c.isr), a.field(c.elcr), a.field(c.vector_base);
    a.field(c.cascade), a.field(c.lowest), a.field(c.init_step);
    a.field(c.icw4_needed), a.field(c.single), a.field(c.level_mode);
    a.field(c.auto_eoi), a.field(c.special_fully_nested);
    a.field(c.rotate_on_auto_eoi), a.field(c.special_mask), a.field(c.read_isr), a.field(c.poll);
  }
  a.field(s.intr);
}

}  // namespace

I8259::I8259(InterruptBus& bus) : bus_(bus) {
  bus.attach(this);
  reset();
}

void I8259::attach(IoBus& bus) {
  bus.attach_ports(0x20, 2, this);
  bus.attach_ports(0xa0, 2, this);
  bus.attach_ports(0x4d0, 2, this);
}

void I8259::reset() {
  for (Chip& c : s_.chip) {
    const u8 lines = c.lines;  // driven by the devices
    c = Chip{};
    c.lines = lines;
    c.imr = 0xff;  // undefined on the chip: as firmware leaves it
  }
  update();
}

void I8259::save(StateWriter& w) const { serialize(w, s_); }

bool I8259::restore(StateReader& r) {
  serialize(r, s_);
  bool ok = r.ok();
  for (unsigned i = 0; i < 2; i++) {
    const Chip& c = s_.chip[i];
    ok = ok && c.lowest < 8 && (c.init_step == 0 || (c.init_step >= 2 && c.init_step <= 4)) &&
         !(c.vector_base & 7) && !(c.elcr & ~kElcrWritable[i]);
  }
  if (!ok) {
    s_ = State{};
    reset();
  }
  return ok;
}

// How many steps the most urgent of `requests` is from the highest priority; kNone when there is none.
unsigned I8259::priority(const Chip& c, u8 requests) {
  for (unsigned p = 0; p < 8; p++)
    if (requests >> ((c.lowest + 1 + p) & 7) & 1) return p;
  return kNone;
}

// The input that chip asks its INT output for, or -1: the most urgent unmasked request, if more urgent than
// what is in service.
int I8259::request(unsigned index) const {
  const Chip& c = s_.chip[index];
  const unsigned wanted = priority(c, c.irr & ~c.imr);
  if (wanted == kNone) return -1;
  u8 in_service = c.isr;
  if (c.special_mask) in_service &= ~c.imr;
  // The slave may interrupt its own service then (data sheet, "special fully nested mode").
  if (index == kMaster && c.special_fully_nested) in_service &= ~(1 << kCascadeInput);
  if (wanted >= priority(c, in_service)) return -1;
  return static_cast<int>((c.lowest + 1 + wanted) & 7);
}

void I8259::set_input(unsigned index, unsigned input, bool level) {
  Chip& c = s_.chip[index];
  const u8 bit = static_cast<u8>(1 << input);
  const bool rising = level && !(c.lines & bit);
  c.lines = level ? c.lines | bit : c.lines & ~bit;
  if (is_level(c, input)) {
    c.irr = level ? c.irr | bit : c.irr & ~bit;
  } else if (rising) {
    c.irr |= bit;
  }
}

void I8259::update() {
  // The cascade input is edge-triggered like any other, but the slave's INT drops between two of its
  // interrupts (at INTA), so that a request still standing makes a new edge: here IRR just follows.
  Chip& master = s_.chip[kMaster];
  const u8 bit = 1 << kCascadeInput;
  const u8 wire = request(kSlave) >= 0 ? bit : 0;
  master.lines = (master.lines & ~bit) | wire;
  master.irr = (master.irr & ~bit) | wire;
  const bool intr = request(kMaster) >= 0;
  if (intr != s_.intr) {
    s_.intr = intr;
    bus_.set_intr(intr);
  }
}

void I8259::set_irq(unsigned irq, bool level) {
  DEJA_CHECK(irq < 16 && irq != kCascadeInput, "IRQ {}", irq);
  set_input(irq / 8, irq % 8, level);
  update();
}

void I8259::take(Chip& c, unsigned input) {
  const u8 bit = static_cast<u8>(1 << input);
  if (c.auto_eoi) {
    if (c.rotate_on_auto_eoi) c.lowest = static_cast<u8>(input);
  } else {
    c.isr |= bit;
  }
  if (!is_level(c, input)) c.irr &= ~bit;
}

// The vector this chip puts on the bus.
u8 I8259::acknowledge_chip(unsigned index) {
  Chip& c = s_.chip[index];
  const int input = request(index);
  if (input < 0) return c.vector_base | 7;  // spurious: nothing goes into service
  if (index == kMaster && input == kCascadeInput && !c.single) {
    const u8 vector = acknowledge_chip(kSlave);
    take(c, kCascadeInput);
    return vector;
  }
  take(c, static_cast<unsigned>(input));
  return static_cast<u8>(c.vector_base | input);
}

u8 I8259::acknowledge() {
  const u8 vector = acknowledge_chip(kMaster);
  // INT drops at the INTA cycle, and rises again if another request stands.
  if (s_.intr) {
    s_.intr = false;
    bus_.set_intr(false);
  }
  update();
  return vector;
}

u8 I8259::poll(unsigned index) {
  Chip& c = s_.chip[index];
  c.poll = false;
  const int input = request(index);
  if (input < 0) return 0;
  take(c, static_cast<unsigned>(input));
  update();
  return static_cast<u8>(0x80 | input);
}

void I8259::write_ocw2(Chip& c, u8 value) {
  const u8 command = value >> 5;
  const u8 level = value & 7;
  switch (command) {
    case 0:  // rotate in automatic EOI mode: clear, set
    case 4:
      c.rotate_on_auto_eoi = command == 4;
      break;
    case 1:  // non-specific EOI, and the same with rotation
    case 5: {
      const unsigned p = priority(c, c.special_mask ? c.isr & ~c.imr : c.isr);
      if (p == kNone) break;
      const u8 input = (c.lowest + 1 + p) & 7;
      c.isr &= ~(1 << input);
      if (command == 5) c.lowest = input;
      break;
    }
    case 3:  // specific EOI
      c.isr &= ~(1 << level);
      break;
    case 6:  // set priority
      c.lowest = level;
      break;
    case 7:  // rotate on specific EOI
      c.isr &= ~(1 << level);
      c.lowest = level;
      break;
    default:  // 2: no operation
      break;
  }
}

void I8259::write_command(unsigned index, u8 value) {
  Chip& c = s_.chip[index];
  if (value & 0x10) {  // ICW1
    const u8 lines = c.lines, elcr = c.elcr;
    c = Chip{};
    c.lines = lines;
    c.elcr = elcr;
    c.icw4_needed = value & 1;
    c.single = value & 2;
    c.level_mode = value & 8;
    c.init_step = 2;
    // The edge detectors are cleared; level-triggered requests still stand.
    for (unsigned i = 0; i < 8; i++)
      if (is_level(c, i)) c.irr |= c.lines & (1 << i);
  } else if (value & 0x08) {  // OCW3
    if (value & 4) c.poll = true;
    if (value & 2) c.read_isr = value & 1;
    if (value & 0x40) c.special_mask = value & 0x20;
  } else {
    write_ocw2(c, value);
  }
}

void I8259::write_data(unsigned index, u8 value) {
  Chip& c = s_.chip[index];
  switch (c.init_step) {
    case 2:
      c.vector_base = value & 0xf8;
      c.init_step = !c.single ? 3 : c.icw4_needed ? 4 : 0;
      break;
    case 3:
      c.cascade = value;  // the wiring is fixed: slave on IR2
      c.init_step = c.icw4_needed ? 4 : 0;
      break;
    case 4:
      c.special_fully_nested = value & 0x10;
      c.auto_eoi = value & 2;
      c.init_step = 0;
      break;
    default:
      c.imr = value;  // OCW1
      break;
  }
}

u8 I8259::read_byte(u16 port) {
  if (port >= 0x4d0) return s_.chip[port & 1].elcr;
  const unsigned index = port >> 7 & 1;
  Chip& c = s_.chip[index];
  if (c.poll) return poll(index);
  if (port & 1) return c.imr;
  return c.read_isr ? c.isr : c.irr;
}

void I8259::write_byte(u16 port, u8 value) {
  if (port >= 0x4d0) {
    const unsigned index = port & 1;
    Chip& c = s_.chip[index];
    c.elcr = value & kElcrWritable[index];
    for (unsigned i = 0; i < 8; i++) {
      const u8 bit = static_cast<u8>(1 << i);
      if (is_level(c, i)) c.irr = (c.irr & ~bit) | (c.lines & bit);
    }
  } else if (port & 1) {
    write_data(port >> 7 & 1, value);
  } else {
    write_command(port >> 7 & 1, value);
  }
  update();
}

}  // namespace deja
