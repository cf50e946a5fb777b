#include "devices/uart16550.h"

#include <algorithm>

#include "devices/oscillator.h"

namespace deja {
namespace {

enum Register : u8 { kData, kIer, kIirFcr, kLcr, kMcr, kLsr, kMsr, kScr };

constexpr u8 kIerReceive = 1, kIerThrEmpty = 2, kIerLineStatus = 4, kIerModemStatus = 8;
constexpr u8 kIirNone = 1, kIirModemStatus = 0, kIirThrEmpty = 2, kIirReceive = 4, kIirTimeout = 0xc;
constexpr u8 kIirLineStatus = 6, kIirFifos = 0xc0;
constexpr u8 kFcrEnable = 1, kFcrClearReceiver = 2, kFcrClearTransmitter = 4;
constexpr u8 kLcrDlab = 0x80, kLcrBreak = 0x40;
constexpr u8 kMcrDtr = 1, kMcrRts = 2, kMcrOut1 = 4, kMcrOut2 = 8, kMcrLoop = 0x10, kMcrWritable = 0x1f;
constexpr u8 kLsrDataReady = 1, kLsrOverrun = 2, kLsrParity = 4, kLsrFraming = 8, kLsrBreak = 0x10;
constexpr u8 kLsrThrEmpty = 0x20, kLsrIdle = 0x40, kLsrFifoError = 0x80;
constexpr u8 kLsrCharacterErrors = kLsrParity | kLsrFraming | kLsrBreak;
constexpr u8 kMsrCts = 0x10, kMsrDsr = 0x20, kMsrRi = 0x40, kMsrDcd = 0x80, kMsrTrailingRi = 4;

constexpr u64 kBaudClock = 115'200;  // 1.8432 MHz / 16; a bit takes `divisor` of its periods

template <class A, class S>
void serialize(A& a, S& s) {
  a.field(s.ier), a.field(s.fcr), a.field(s.lcr), a.field(s.mcr), a.field(s.scr), a.field(s.lsr),
      a.field(s.msr);
  a.field(s.divisor), a.field(s.fifo_head), a.field(s.fifo_count), a.field(s.fifo_data),
      a.field(s.fifo_errors);
  a.field(s.received), a.field(s.thr_empty_pending), a.field(s.timeout_at), a.field(s.timeout_pending);
  a.field(s.irq);
}

}  // namespace

Uart16550::Uart16550(std::string name, u16 base, const TimeSource& time, IrqLine irq,
                     std::function<void(u8)> on_transmit)
    : name_(std::move(name)),
      base_(base),
      time_(time),
      irq_(std::move(irq)),
      on_transmit_(std::move(on_transmit)) {
  reset();
}

void Uart16550::attach(IoBus& bus) { bus.attach_ports(base_, 8, this); }

void Uart16550::reset() {
  const bool irq = s_.irq;
  s_ = State{};
  s_.divisor = 12;  // 9600 baud; undefined on the chip
  if (irq) irq_(false);
}

void Uart16550::save(StateWriter& w) const { serialize(w, s_); }

bool Uart16550::restore(StateReader& r) {
  serialize(r, s_);
  const bool ok = r.ok() && s_.fifo_head < kFifoSize && s_.fifo_count <= kFifoSize && s_.ier < 16 &&
                  !(s_.mcr & ~kMcrWritable) && s_.msr < 16 && !(s_.lsr & ~kLsrOverrun);
  if (!ok) reset();
  return ok;
}

// --- receiver ---------------------------------------------------------------------------------------------

unsigned Uart16550::trigger_level() const {
  constexpr unsigned kLevels[] = {1, 4, 8, 14};
  return fifo_mode() ? kLevels[s_.fcr >> 6] : 1;
}

// Start bit, data, parity, stop bits at the programmed rate.
VtimeNs Uart16550::character_time() const {
  const u64 bits = 1 + (5 + (s_.lcr & 3)) + (s_.lcr >> 3 & 1) + (s_.lcr & 4 ? 2 : 1);
  const u64 divisor = s_.divisor ? s_.divisor : 65'536;
  return (bits * divisor * kNsPerSecond + kBaudClock - 1) / kBaudClock;
}

// Four character times after the last byte came in or was read, with bytes below the trigger level waiting.
void Uart16550::restart_timeout() {
  s_.timeout_pending = false;
  s_.timeout_at = fifo_mode() && s_.fifo_count ? add_time(time_.now(), 4 * character_time()) : kNeverNs;
}

void Uart16550::advance(VtimeNs now) {
  if (now < s_.timeout_at) return;
  s_.timeout_at = kNeverNs;
  s_.timeout_pending = s_.fifo_count != 0;
  update_irq();
}

unsigned Uart16550::room() const {
  if (loopback()) return 0;  // the line is cut off from the receiver
  return capacity() - std::min<unsigned>(s_.fifo_count, capacity());
}

void Uart16550::push(u8 byte, u8 errors) {
  if (s_.fifo_count >= capacity()) {
    s_.lsr |= kLsrOverrun;
    // The new byte is lost in FIFO mode; without FIFO it replaces the one not read.
    if (!fifo_mode()) {
      s_.fifo_data[s_.fifo_head] = byte;
      s_.fifo_errors[s_.fifo_head] |= errors;
    }
  } else {
    const unsigned at = (s_.fifo_head + s_.fifo_count) % kFifoSize;
    s_.fifo_data[at] = byte;
    s_.fifo_errors[at] = errors;
    s_.fifo_count++;
  }
  restart_timeout();
  update_irq();
}

void Uart16550::receive(u8 byte) {
  if (!loopback()) push(byte, 0);
}

// The line held at space for longer than a character: one zero byte, marked.
void Uart16550::receive_break() {
  if (!loopback()) push(0, kLsrBreak | kLsrFraming);
}

void Uart16550::clear_receiver() {
  s_.fifo_head = s_.fifo_count = 0;
  s_.fifo_data.fill(0);
  s_.fifo_errors.fill(0);
  restart_timeout();
}

u8 Uart16550::pop() {
  if (s_.fifo_count == 0) return s_.received;
  s_.received = s_.fifo_data[s_.fifo_head];
  s_.fifo_data[s_.fifo_head] = s_.fifo_errors[s_.fifo_head] = 0;
  s_.fifo_head = (s_.fifo_head + 1) % kFifoSize;
  s_.fifo_count--;
  restart_timeout();
  return s_.received;
}

// --- transmitter ------------------------------------------------------------------------------------------

void Uart16550::transmit(u8 byte) {
  s_.thr_empty_pending = true;  // already gone
  constexpr u8 kDataMask[] = {0x1f, 0x3f, 0x7f, 0xff};
  byte &= kDataMask[s_.lcr & 3];
  if (loopback()) {
    push(byte, 0);
  } else if (!(s_.lcr & kLcrBreak)) {
    on_transmit_(byte);
  }
}

// --- status and interrupts --------------------------------------------------------------------------------

u8 Uart16550::line_status() const {
  u8 lsr = s_.lsr | kLsrThrEmpty | kLsrIdle;
  if (s_.fifo_count) lsr |= kLsrDataReady | s_.fifo_errors[s_.fifo_head];
  if (fifo_mode()) {
    for (u8 errors : s_.fifo_errors)
      if (errors) lsr |= kLsrFifoError;
  }
  return lsr;
}

// MSR bits 7:4. Outside loopback a terminal is always connected and ready.
u8 Uart16550::modem_lines() const {
  if (!loopback()) return kMsrCts | kMsrDsr | kMsrDcd;
  return static_cast<u8>((s_.mcr & kMcrRts ? kMsrCts : 0) | (s_.mcr & kMcrDtr ? kMsrDsr : 0) |
                         (s_.mcr & kMcrOut1 ? kMsrRi : 0) | (s_.mcr & kMcrOut2 ? kMsrDcd : 0));
}

void Uart16550::modem_lines_changed(u8 before) {
  const u8 now = modem_lines();
  u8 delta = static_cast<u8>((before ^ now) >> 4);
  if (!(before & kMsrRi)) delta &= ~kMsrTrailingRi;  // RI reports only its trailing edge
  s_.msr |= delta;
}

u8 Uart16550::interrupt_id() const {
  if ((s_.ier & kIerLineStatus) && (line_status() & (kLsrOverrun | kLsrCharacterErrors)))
    return kIirLineStatus;
  if ((s_.ier & kIerReceive) && s_.fifo_count >= trigger_level()) return kIirReceive;
  if ((s_.ier & kIerReceive) && s_.timeout_pending) return kIirTimeout;
  if ((s_.ier & kIerThrEmpty) && s_.thr_empty_pending) return kIirThrEmpty;
  if ((s_.ier & kIerModemStatus) && s_.msr) return kIirModemStatus;
  return kIirNone;
}

// On a PC, OUT2 opens the gate between the chip's INTR and the interrupt line; in loopback the pin is
// inactive.
void Uart16550::update_irq() {
  const bool gate = (s_.mcr & (kMcrOut2 | kMcrLoop)) == kMcrOut2;
  const bool irq = gate && interrupt_id() != kIirNone;
  if (irq != s_.irq) {
    s_.irq = irq;
    irq_(irq);
  }
}

// --- registers --------------------------------------------------------------------------------------------

u8 Uart16550::read_byte(u16 port) {
  advance(time_.now());
  const bool dlab = s_.lcr & kLcrDlab;
  u8 value = 0;
  switch ((port - base_) & 7) {
    case kData:
      value = dlab ? static_cast<u8>(s_.divisor) : pop();
      break;
    case kIer:
      value = dlab ? static_cast<u8>(s_.divisor >> 8) : s_.ier;
      break;
    case kIirFcr:
      value = interrupt_id();
      if (value == kIirThrEmpty) s_.thr_empty_pending = false;
      if (fifo_mode()) value |= kIirFifos;
      break;
    case kLcr:
      value = s_.lcr;
      break;
    case kMcr:
      value = s_.mcr;
      break;
    case kLsr:
      value = line_status();
      s_.lsr = 0;
      if (s_.fifo_count) s_.fifo_errors[s_.fifo_head] = 0;
      break;
    case kMsr:
      value = modem_lines() | s_.msr;
      s_.msr = 0;
      break;
    case kScr:
      value = s_.scr;
      break;
  }
  update_irq();
  return value;
}

void Uart16550::write_byte(u16 port, u8 value) {
  advance(time_.now());
  const bool dlab = s_.lcr & kLcrDlab;
  switch ((port - base_) & 7) {
    case kData:
      if (dlab) {
        s_.divisor = static_cast<u16>((s_.divisor & 0xff00) | value);
      } else {
        transmit(value);
      }
      break;
    case kIer:
      if (dlab) {
        s_.divisor = static_cast<u16>((s_.divisor & 0xff) | value << 8);
        break;
      }
      // Enabling the THRE interrupt with an empty transmitter raises it at once.
      if ((value & kIerThrEmpty) && !(s_.ier & kIerThrEmpty)) s_.thr_empty_pending = true;
      s_.ier = value & 0xf;
      break;
    case kIirFcr:
      if ((value ^ s_.fcr) & kFcrEnable) value |= kFcrClearReceiver | kFcrClearTransmitter;
      s_.fcr = value & kFcrEnable ? value & 0xc9 : 0;  // the other bits count only with bit 0 set
      if (value & kFcrClearReceiver) clear_receiver();
      if (value & kFcrClearTransmitter) s_.thr_empty_pending = true;
      break;
    case kLcr:
      s_.lcr = value;
      break;
    case kMcr: {
      const u8 before = modem_lines();
      s_.mcr = value & kMcrWritable;
      modem_lines_changed(before);
      break;
    }
    case kLsr:
    case kMsr:
      break;  // read-only; "for factory testing" in the data sheet
    case kScr:
      s_.scr = value;
      break;
  }
  update_irq();
}

}  // namespace deja
