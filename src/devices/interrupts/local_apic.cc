#include "devices/interrupts/local_apic.h"

#include <algorithm>
#include <bit>

#include "base/log.h"

namespace deja {
namespace {

// Register indices: bits 11:4 of the xAPIC offset, the low byte of the x2APIC MSR (SDM vol. 3A table 10-6).
enum Register : unsigned {
  kId = 0x02,
  kVersion = 0x03,
  kTpr = 0x08,
  kApr = 0x09,
  kPpr = 0x0a,
  kEoi = 0x0b,
  kLdr = 0x0d,
  kDfr = 0x0e,
  kSvr = 0x0f,
  kIsr = 0x10,  // 8 registers each
  kTmr = 0x18,
  kIrr = 0x20,
  kEsr = 0x28,
  kIcrLow = 0x30,
  kIcrHigh = 0x31,
  kLvtTimer = 0x32,  // 6 registers, in the order of LocalApic::Lvt
  kLvtError = 0x37,
  kInitialCount = 0x38,
  kCurrentCount = 0x39,
  kDivide = 0x3e,
  kSelfIpi = 0x3f,  // x2APIC only
};

constexpr u32 kMsrTscDeadline = 0x6e0;
constexpr u32 kMsrX2ApicFirst = 0x800;

// Version 14h, highest LVT entry 5, no suppression of EOI broadcasts.
constexpr u32 kVersionValue = 0x00050014;

constexpr u32 kLvtMasked = 1 << 16;
constexpr u32 kLvtLevel = 1 << 15;
constexpr u32 kLvtRemoteIrr = 1 << 14;
// Writable bits of each LVT entry (SDM vol. 3A figure 10-8).
constexpr std::array<u32, LocalApic::kLvtCount> kLvtWritable = {0x700ff, 0x107ff, 0x107ff,
                                                                0x1a7ff, 0x1a7ff, 0x100ff};
constexpr u32 kLvtReadOnly = 1 << 12 | kLvtRemoteIrr;

constexpr u32 kSvrEnable = 0x100;
constexpr u32 kSvrWritable = 0x3ff;
constexpr u32 kDivideWritable = 0xb;

// Error status register bits (SDM vol. 3A figure 10-9).
constexpr u32 kEsrSendIllegalVector = 1 << 5;
constexpr u32 kEsrReceiveIllegalVector = 1 << 6;
constexpr u32 kEsrIllegalRegister = 1 << 7;

// Writable bits of ICR 31:0: vector, mode, destination mode, level, trigger, shorthand.
constexpr u32 kIcrLowWritable = 0x000ccfff;

constexpr u64 kApicBaseAddress = 0xff'ffff'f000;  // 40 physical address bits

using Bits = std::array<u32, 8>;
void set_bit(Bits& b, u8 v) { b[v >> 5] |= u32{1} << (v & 31); }
void clear_bit(Bits& b, u8 v) { b[v >> 5] &= ~(u32{1} << (v & 31)); }
bool test_bit(const Bits& b, u8 v) { return b[v >> 5] >> (v & 31) & 1; }
// The highest vector set, or -1.
int highest_bit(const Bits& b) {
  for (int i = 7; i >= 0; i--)
    if (b[i]) return i * 32 + 31 - std::countl_zero(b[i]);
  return -1;
}

template <class A, class S>
void serialize(A& a, S& s) {
  a.field(s.apic_base);
  a.field(s.tpr), a.field(s.ldr), a.field(s.dfr), a.field(s.svr);
  a.field(s.esr), a.field(s.esr_pending), a.field(s.icr);
  a.field(s.isr), a.field(s.tmr), a.field(s.irr), a.field(s.lvt);
  a.field(s.divide), a.field(s.initial_count);
  a.field(s.timer_running), a.field(s.timer_start), a.field(s.timer_first), a.field(s.timer_expiries);
  a.field(s.tsc_deadline), a.field(s.deadline_ticks), a.field(s.deadline_adjust);
  a.field(s.lint0), a.field(s.lint1), a.field(s.ext_int);
}

}  // namespace

LocalApic::LocalApic(const LocalApicConfig& config, const TimeSource& time, InterruptBus& bus,
                     LocalApicSignals signals)
    : id_(config.id),
      name_(fmt::format("local_apic{}", config.id)),
      tsc_{config.tsc_hz},
      crystal_{config.crystal_hz},
      time_(time),
      bus_(bus),
      signals_(std::move(signals)) {
  bus.attach(this);
  reset();
}

// --- reset, save, restore ---------------------------------------------------------------------------------

void LocalApic::reset() {
  s_.apic_base = kApicDefaultBase | kApicBaseEnable | (id_ == 0 ? kApicBaseBsp : 0);
  reset_registers();
}

// The state after RESET or INIT (SDM vol. 3A 10.4.7.1 and 10.4.7.3); the mode and the input wires stay.
void LocalApic::reset_registers() {
  State fresh;
  fresh.apic_base = s_.apic_base;
  fresh.lint0 = s_.lint0;
  fresh.lint1 = s_.lint1;
  fresh.dfr = 0xffffffff;
  fresh.svr = 0xff;
  fresh.lvt.fill(kLvtMasked);
  s_ = fresh;
  update();
  update_timer();
}

void LocalApic::enter_virtual_wire_mode() {
  s_.svr = 0x1ff;
  s_.lvt[lint0] = 0x700;
  s_.lvt[lint1] = 0x400;
  update();
}

void LocalApic::save(StateWriter& w) const { serialize(w, s_); }

bool LocalApic::restore(StateReader& r) {
  serialize(r, s_);
  if (!r.ok() || !valid()) {
    reset();
    return false;
  }
  update();
  update_timer();
  return true;
}

// Could a guest have brought these values about?
bool LocalApic::valid() const {
  const u64 base_bits = kApicBaseAddress | kApicBaseBsp | kApicBaseExtended | kApicBaseEnable;
  if (s_.apic_base & ~base_bits) return false;
  if (in_x2apic_mode() && !hardware_enabled()) return false;
  if (s_.tpr > 0xff || s_.svr & ~kSvrWritable || s_.divide & ~kDivideWritable) return false;
  if ((s_.isr[0] | s_.irr[0] | s_.tmr[0]) & 0xffff) return false;
  for (unsigned i = 0; i < kLvtCount; i++)
    if (s_.lvt[i] & ~(kLvtWritable[i] | kLvtRemoteIrr)) return false;
  if (timer_mode() > TimerMode::tsc_deadline) return false;
  if (timer_mode() == TimerMode::tsc_deadline ? s_.timer_running : s_.tsc_deadline != 0) return false;
  if (s_.timer_running && (s_.timer_first == 0 || s_.initial_count == 0)) return false;
  return true;
}

void LocalApic::write_apic_base(u64 value) {
  const u64 old = s_.apic_base;
  s_.apic_base = value;
  if (!(value & kApicBaseEnable)) {
    // Disabled: the registers are lost, and LINT0 acts as the INTR pin (SDM vol. 3A 10.4.3).
    s_.apic_base &= ~kApicBaseExtended;
    reset_registers();
  } else if ((value & kApicBaseExtended) && !(old & kApicBaseExtended)) {
    s_.icr &= 0xffffffff;  // the destination has another format (SDM vol. 3A 10.12.5.1)
    s_.ldr = 0;            // read-only from here on, derived from the id
    update();
  } else {
    update();
  }
}

// --- acceptance and priorities ----------------------------------------------------------------------------

u8 LocalApic::processor_priority() const {
  const int isrv = highest_bit(s_.isr);
  const u32 isr_class = isrv < 0 ? 0 : isrv & 0xf0;
  return static_cast<u8>((s_.tpr & 0xf0) >= isr_class ? s_.tpr : isr_class);
}

// SDM vol. 3A 10.6.2.4.
u8 LocalApic::arbitration_priority() const {
  const u32 isr_class = std::max(highest_bit(s_.isr), 0) & 0xf0;
  const u32 irr_class = std::max(highest_bit(s_.irr), 0) & 0xf0;
  const u32 tpr_class = s_.tpr & 0xf0;
  if (tpr_class >= irr_class && tpr_class > isr_class) return static_cast<u8>(s_.tpr);
  return static_cast<u8>(std::max({tpr_class, isr_class, irr_class}));
}

bool LocalApic::ext_int_pending() const {
  if (!hardware_enabled()) return s_.lint0;
  if (s_.ext_int) return true;
  return s_.lint0 && (s_.lvt[lint0] & (kLvtMasked | 0x700)) == 0x700;
}

void LocalApic::update() {
  pending_ = ext_int_pending();
  if (!pending_ && hardware_enabled()) {
    const int irrv = highest_bit(s_.irr);
    pending_ = irrv >= 0 && (irrv >> 4) > (processor_priority() >> 4);
  }
}

int LocalApic::acknowledge() {
  if (!pending_) return -1;
  // The 8259's interrupt has no priority among those of the APIC; taking it first is what hardware with a
  // separate INTR pin does.
  if (ext_int_pending()) {
    s_.ext_int = false;
    const int vector = bus_.acknowledge_8259();
    update();
    return vector;
  }
  const u8 vector = static_cast<u8>(highest_bit(s_.irr));
  clear_bit(s_.irr, vector);
  set_bit(s_.isr, vector);
  update();
  return vector;
}

void LocalApic::write_cr8(u64 value) {
  s_.tpr = static_cast<u32>(value & 15) << 4;
  update();
}

void LocalApic::end_of_interrupt() {
  const int top = highest_bit(s_.isr);
  if (top < 0) return;
  const u8 vector = static_cast<u8>(top);
  clear_bit(s_.isr, vector);
  if (test_bit(s_.tmr, vector)) {
    for (Lvt which : {lint0, lint1}) {
      u32& lvt = s_.lvt[which];
      if ((lvt & kLvtRemoteIrr) && (lvt & 0xff) == vector) {
        lvt &= ~kLvtRemoteIrr;
        lint_changed(which, which == lint0 ? s_.lint0 : s_.lint1);
      }
    }
    bus_.end_of_interrupt(vector);
  }
  update();
}

void LocalApic::accept(u8 vector, bool level) {
  if (vector < 16) return report_error(kEsrReceiveIllegalVector);
  set_bit(s_.irr, vector);
  if (level) {
    set_bit(s_.tmr, vector);
  } else {
    clear_bit(s_.tmr, vector);
  }
  update();
}

bool LocalApic::is_destination(const InterruptMessage& m) const {
  // A disabled APIC still decodes the messages that start its processor: it has its id from the wiring.
  if (!m.logical) {
    if (m.destination == (m.wide ? 0xffffffff : 0xff)) return true;
    return m.destination == id_;
  }
  if (in_x2apic_mode()) {
    if (m.destination == (m.wide ? 0xffffffff : 0xff)) return true;
    return m.destination >> 16 == id_ >> 4 && (m.destination & 0xffff & (1 << (id_ & 15)));
  }
  if (m.destination > 0xff) return m.destination == 0xffffffff;
  const u32 ldr = s_.ldr >> 24;
  if (s_.dfr >> 28 == 0xf) return m.destination & ldr;  // flat model
  // Cluster model (any other value of DFR is reserved and treated so): cluster 15 names all clusters.
  const bool same_cluster = m.destination >> 4 == 0xf || m.destination >> 4 == ldr >> 4;
  return same_cluster && (m.destination & ldr & 0xf);
}

bool LocalApic::receive(const InterruptMessage& m) {
  switch (m.mode) {
    case DeliveryMode::fixed:
    case DeliveryMode::lowest_priority:
      if (!accepts_fixed()) return false;
      accept(m.vector, m.level);
      return true;
    case DeliveryMode::nmi:
      signals_.nmi();
      return true;
    case DeliveryMode::init:
      reset_registers();
      signals_.init();
      return true;
    case DeliveryMode::startup:
      signals_.startup(m.vector);
      return true;
    case DeliveryMode::ext_int:
      if (!accepts_fixed()) return false;
      s_.ext_int = true;
      update();
      return true;
    case DeliveryMode::smi:
    case DeliveryMode::remote_read:
      break;
  }
  log_info("devices", "{}: interrupt message with delivery mode {} dropped", name_, static_cast<int>(m.mode));
  return false;
}

// --- local vector table and inputs ------------------------------------------------------------------------

void LocalApic::raise_lvt(Lvt which) {
  const u32 lvt = s_.lvt[which];
  if (lvt & kLvtMasked) return;
  const bool has_mode = which != timer && which != error;
  switch (static_cast<DeliveryMode>(has_mode ? lvt >> 8 & 7 : 0)) {
    case DeliveryMode::fixed: {
      const bool level = which == lint0 && (lvt & kLvtLevel);  // LINT1 is always edge-triggered
      if (level) s_.lvt[which] |= kLvtRemoteIrr;
      accept(static_cast<u8>(lvt), level);
      break;
    }
    case DeliveryMode::nmi:
      signals_.nmi();
      break;
    case DeliveryMode::init:
      reset_registers();
      signals_.init();
      break;
    case DeliveryMode::ext_int:  // follows the level of the wire: ext_int_pending()
    default:
      break;
  }
}

void LocalApic::set_lint0(bool level) {
  const bool rising = level && !s_.lint0;
  s_.lint0 = level;
  if (rising || (s_.lvt[lint0] & kLvtLevel)) lint_changed(lint0, level);
  update();
}

void LocalApic::set_lint1(bool level) {
  const bool rising = level && !s_.lint1;
  s_.lint1 = level;
  if (!rising) return;
  if (hardware_enabled()) {
    lint_changed(lint1, level);
  } else {
    signals_.nmi();  // the pin is NMI then
  }
}

void LocalApic::lint_changed(Lvt which, bool level) {
  if (level && hardware_enabled() && !(s_.lvt[which] & kLvtRemoteIrr)) raise_lvt(which);
}

void LocalApic::report_error(u32 esr_bit) {
  const bool news = !(s_.esr_pending & esr_bit);
  s_.esr_pending |= esr_bit;
  if (!news || (s_.lvt[error] & kLvtMasked)) return;
  const u8 vector = static_cast<u8>(s_.lvt[error]);
  if (vector < 16) {
    s_.esr_pending |= kEsrReceiveIllegalVector;
  } else {
    accept(vector, false);
  }
}

// --- timer ------------------------------------------------------------------------------------------------

// SDM vol. 3A figure 10-10: bits 3, 1, 0; 111b divides by 1.
unsigned LocalApic::divisor() const {
  const unsigned code = (s_.divide & 3) | (s_.divide >> 1 & 4);
  return 1u << ((code + 1) & 7);
}

u64 LocalApic::counts_since_start(VtimeNs now) const {
  return now < s_.timer_start ? 0 : crystal_.ticks(now - s_.timer_start) / divisor();
}

u32 LocalApic::current_count(VtimeNs now) const {
  if (!s_.timer_running) return 0;
  const u64 counts = counts_since_start(now);
  if (counts < s_.timer_first) return static_cast<u32>(s_.timer_first - counts);
  if (timer_mode() != TimerMode::periodic) return 0;
  return static_cast<u32>(s_.initial_count - (counts - s_.timer_first) % s_.initial_count);
}

void LocalApic::start_timer(u32 count, VtimeNs now) {
  s_.timer_running = count != 0;
  s_.timer_start = now;
  s_.timer_first = count;
  s_.timer_expiries = 0;
}

void LocalApic::skip_expiries(VtimeNs now) {
  if (!s_.timer_running) return;
  const u64 counts = counts_since_start(now);
  if (counts < s_.timer_first) return;
  if (timer_mode() == TimerMode::periodic) {
    s_.timer_expiries = (counts - s_.timer_first) / s_.initial_count + 1;
  } else {
    s_.timer_running = false;
  }
}

// The TSC wraps at 2^64, so whether a deadline lies ahead is decided when it is written.
void LocalApic::set_deadline(u64 deadline, VtimeNs now) {
  s_.tsc_deadline = deadline;
  s_.deadline_ticks = s_.deadline_adjust = 0;
  if (!deadline) return;
  s_.deadline_adjust = signals_.tsc_adjust();
  const u64 ticks = tsc_.ticks(now);
  const u64 tsc = ticks + s_.deadline_adjust;
  const u64 ahead = deadline > tsc ? deadline - tsc : 0;
  s_.deadline_ticks = ahead <= ~ticks ? ticks + ahead : ~u64{0};
}

// Moving the TSC forward by IA32_TSC_ADJUST brings the deadline nearer by as much.
VtimeNs LocalApic::deadline_time(u64 adjust) const {
  const i128 ticks = i128{s_.deadline_ticks} - static_cast<i64>(adjust - s_.deadline_adjust);
  return ticks <= 0 ? 0 : tsc_.time_of(static_cast<u128>(ticks));
}

void LocalApic::update_timer() {
  next_event_ = kNeverNs;
  if (timer_mode() == TimerMode::tsc_deadline) {
    if (!s_.tsc_deadline) return;
    adjust_used_ = signals_.tsc_adjust();
    next_event_ = deadline_time(adjust_used_);
  } else if (s_.timer_running && !timer_masked()) {
    const u128 counts = u128{s_.timer_expiries} * s_.initial_count + s_.timer_first;
    next_event_ = add_time(crystal_.time_of(counts * divisor()), s_.timer_start);
  }
}

VtimeNs LocalApic::next_event() const {
  if (s_.tsc_deadline) {
    const u64 adjust = signals_.tsc_adjust();
    if (adjust != adjust_used_) {  // IA32_TSC_ADJUST or IA32_TIME_STAMP_COUNTER was written
      adjust_used_ = adjust;
      next_event_ = deadline_time(adjust);
    }
  }
  return next_event_;
}

void LocalApic::advance(VtimeNs now) {
  if (now < next_event()) return;
  if (timer_mode() == TimerMode::tsc_deadline) {
    set_deadline(0, now);
  } else {
    skip_expiries(now);
  }
  update_timer();
  raise_lvt(timer);
}

// --- registers --------------------------------------------------------------------------------------------

u32 LocalApic::read_register(unsigned index) {
  switch (index) {
    case kId:
      return in_x2apic_mode() ? id_ : id_ << 24;
    case kVersion:
      return kVersionValue;
    case kTpr:
      return s_.tpr;
    case kApr:
      return arbitration_priority();
    case kPpr:
      return processor_priority();
    case kLdr:
      return in_x2apic_mode() ? (id_ >> 4) << 16 | 1u << (id_ & 15) : s_.ldr;
    case kDfr:
      return s_.dfr;
    case kSvr:
      return s_.svr;
    case kEsr:
      return s_.esr;
    case kIcrLow:
      return static_cast<u32>(s_.icr);
    case kIcrHigh:
      return static_cast<u32>(s_.icr >> 32);
    case kInitialCount:
      return s_.initial_count;
    case kCurrentCount:
      return current_count(time_.now());
    case kDivide:
      return s_.divide;
    default:
      break;
  }
  if (index >= kIsr && index < kIsr + 8) return s_.isr[index - kIsr];
  if (index >= kTmr && index < kTmr + 8) return s_.tmr[index - kTmr];
  if (index >= kIrr && index < kIrr + 8) return s_.irr[index - kIrr];
  if (index >= kLvtTimer && index <= kLvtError) return s_.lvt[index - kLvtTimer];
  if (!in_x2apic_mode() && index != kEoi) report_error(kEsrIllegalRegister);
  return 0;
}

void LocalApic::write_lvt(Lvt which, u32 value) {
  const TimerMode old_mode = timer_mode();
  const VtimeNs now = time_.now();
  const u32 count = current_count(now);
  if (which == timer) skip_expiries(now);
  if (!(s_.svr & kSvrEnable)) value |= kLvtMasked;
  u32& lvt = s_.lvt[which];
  const u32 kept = value & kLvtLevel ? lvt & kLvtRemoteIrr : 0;
  lvt = (value & kLvtWritable[which]) | kept;
  if (which == lint0) {
    if (lvt & kLvtLevel) lint_changed(lint0, s_.lint0);
    update();
  }
  if (which != timer) return;
  // Mode 11b is reserved; it counts as one-shot.
  if ((lvt >> 17 & 3) == 3) lvt &= ~(u32{3} << 17);
  const TimerMode mode = timer_mode();
  if (mode != old_mode) {
    if (mode == TimerMode::tsc_deadline || old_mode == TimerMode::tsc_deadline) {
      set_deadline(0, now);  // the change disarms the timer (SDM vol. 3A 10.5.4.1)
      s_.initial_count = 0;
      start_timer(0, now);
    } else {
      start_timer(count, now);
    }
  }
  update_timer();
}

void LocalApic::write_svr(u32 value) {
  s_.svr = value & kSvrWritable;
  if (!(s_.svr & kSvrEnable)) {
    skip_expiries(time_.now());
    for (u32& lvt : s_.lvt) lvt |= kLvtMasked;
    update_timer();
  }
  update();
}

void LocalApic::send_icr() {
  InterruptMessage m;
  m.mode = static_cast<DeliveryMode>(s_.icr >> 8 & 7);
  m.vector = static_cast<u8>(s_.icr);
  m.logical = s_.icr >> 11 & 1;
  m.wide = in_x2apic_mode();
  m.destination = static_cast<u32>(m.wide ? s_.icr >> 32 : s_.icr >> 56);
  const bool assert = s_.icr >> 14 & 1, level = s_.icr >> 15 & 1;
  const auto shorthand = static_cast<Shorthand>(s_.icr >> 18 & 3);
  // INIT level de-assert only set arbitration ids; no processor since the Pentium 4 does anything.
  if (m.mode == DeliveryMode::init && level && !assert) return;
  const bool has_vector = m.mode == DeliveryMode::fixed || m.mode == DeliveryMode::lowest_priority;
  if (has_vector && m.vector < 16) return report_error(kEsrSendIllegalVector);
  if (m.mode == DeliveryMode::ext_int || m.mode == DeliveryMode::remote_read) {
    log_info("devices", "{}: ICR {:#x}: reserved delivery mode", name_, s_.icr);
    return;
  }
  bus_.send_ipi(m, shorthand, this);
}

bool LocalApic::write_register(unsigned index, u32 value) {
  switch (index) {
    case kTpr:
      s_.tpr = value & 0xff;
      update();
      return true;
    case kEoi:
      end_of_interrupt();
      return true;
    case kLdr:
      s_.ldr = value & 0xff000000;
      return true;
    case kDfr:
      s_.dfr = value | 0x0fffffff;
      return true;
    case kSvr:
      write_svr(value);
      return true;
    case kEsr:
      s_.esr = s_.esr_pending;
      s_.esr_pending = 0;
      return true;
    case kIcrLow:
      s_.icr = (s_.icr & ~u64{0xffffffff}) | (value & kIcrLowWritable);
      send_icr();
      return true;
    case kIcrHigh:
      s_.icr = (s_.icr & 0xffffffff) | u64{value & 0xff000000} << 32;
      return true;
    case kInitialCount:
      if (timer_mode() == TimerMode::tsc_deadline) return true;
      s_.initial_count = value;
      start_timer(value, time_.now());
      update_timer();
      return true;
    case kDivide: {
      const VtimeNs now = time_.now();
      const u32 count = current_count(now);
      skip_expiries(now);
      s_.divide = value & kDivideWritable;
      start_timer(count, now);
      update_timer();
      return true;
    }
    default:
      break;
  }
  if (index >= kLvtTimer && index <= kLvtError) {
    write_lvt(static_cast<Lvt>(index - kLvtTimer), value);
    return true;
  }
  return false;
}

// Registers are 32 bits at the start of 16 bytes; anything else is undefined by the manual. Here narrower
// reads see bytes of the register, the rest of the 16 bytes is zero, and writes other than 32 bits at its
// start are lost.
u64 LocalApic::mmio_read(u64 offset, unsigned size) {
  advance(time_.now());
  const unsigned byte = offset & 15;
  if (byte >= 4) return 0;
  const u32 value = read_register(static_cast<unsigned>(offset >> 4 & 0xff));
  return value >> (8 * byte);
}

void LocalApic::mmio_write(u64 offset, u64 value, unsigned size) {
  advance(time_.now());
  const unsigned index = offset >> 4 & 0xff;
  if ((offset & 15) != 0 || size < 4) {
    log_info("devices", "{}: {}-byte write at offset {:#x} ignored", name_, size, offset);
    return;
  }
  if (write_register(index, static_cast<u32>(value))) return;
  const bool read_only = index == kId || index == kVersion || index == kApr || index == kPpr ||
                         index == kCurrentCount || (index >= kIsr && index < kIrr + 8);
  if (!read_only) report_error(kEsrIllegalRegister);
}

bool LocalApic::msr_read(u32 msr, u64* value) {
  advance(time_.now());
  if (msr == kMsrTscDeadline) {
    *value = s_.tsc_deadline;
    return true;
  }
  if (!in_x2apic_mode() || msr < kMsrX2ApicFirst || msr > kMsrX2ApicFirst + 0x3f) return false;
  const unsigned index = msr - kMsrX2ApicFirst;
  switch (index) {
    case kId:
    case kVersion:
    case kTpr:
    case kPpr:
    case kLdr:
    case kSvr:
    case kEsr:
    case kInitialCount:
    case kCurrentCount:
    case kDivide:
      *value = read_register(index);
      return true;
    case kIcrLow:
      *value = s_.icr;
      return true;
    default:
      if ((index < kIsr || index >= kIrr + 8) && (index < kLvtTimer || index > kLvtError)) return false;
      *value = read_register(index);
      return true;
  }
}

bool LocalApic::msr_write(u32 msr, u64 value) {
  advance(time_.now());
  if (msr == kMsrTscDeadline) {
    if (timer_mode() != TimerMode::tsc_deadline) return true;  // ignored (SDM vol. 3A 10.5.4.1)
    set_deadline(value, time_.now());
    update_timer();
    advance(time_.now());  // a deadline in the past is due at once
    return true;
  }
  if (!in_x2apic_mode() || msr < kMsrX2ApicFirst || msr > kMsrX2ApicFirst + 0x3f) return false;
  const unsigned index = msr - kMsrX2ApicFirst;
  // Reserved bits raise #GP in x2APIC mode (SDM vol. 3A 10.12.1.3).
  u64 writable;
  switch (index) {
    case kTpr:
      writable = 0xff;
      break;
    case kEoi:
      writable = 0;
      break;
    case kSvr:
      writable = kSvrWritable;
      break;
    case kEsr:
      writable = 0;
      break;
    case kIcrLow:
      writable = 0xffffffff00000000 | kIcrLowWritable;
      break;
    case kInitialCount:
      writable = 0xffffffff;
      break;
    case kDivide:
      writable = kDivideWritable;
      break;
    case kSelfIpi:
      writable = 0xff;
      break;
    default:
      if (index < kLvtTimer || index > kLvtError) return false;
      writable = kLvtWritable[index - kLvtTimer] | kLvtReadOnly;
      break;
  }
  if (value & ~writable) return false;
  if (index == kIcrLow) {
    s_.icr = value;
    send_icr();
  } else if (index == kSelfIpi) {
    if (value < 16) {
      report_error(kEsrSendIllegalVector);
    } else if (accepts_fixed()) {
      accept(static_cast<u8>(value), false);
    }
  } else {
    write_register(index, static_cast<u32>(value));
  }
  return true;
}

}  // namespace deja
