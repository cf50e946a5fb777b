#include "devices/acpi_pm.h"

#include "base/check.h"
#include "base/log.h"

namespace deja {
namespace {

// PM1 status and enable bits (ACPI 6.5 tables 4.11 and 4.12).
constexpr u16 kTmr = 1 << 0, kGbl = 1 << 5, kPwrBtn = 1 << 8, kSlpBtn = 1 << 9, kRtc = 1 << 10,
              kWak = 1 << 15;
constexpr u16 kStatusBits = kTmr | 1 << 4 | kGbl | kPwrBtn | kSlpBtn | kRtc | kWak;
constexpr u16 kEnableBits = kTmr | kGbl | kPwrBtn | kSlpBtn | kRtc;
// PM1 control bits (table 4.13).
constexpr u16 kSciEn = 1 << 0, kBmRld = 1 << 1, kSlpTyp = 7 << 10, kSlpEn = 1 << 13;

template <class A, class S>
void serialize(A& a, S& s) {
  a.field(s.pm1_status), a.field(s.pm1_enable), a.field(s.pm1_control), a.field(s.timer_half_periods);
  a.field(s.gpe0_status), a.field(s.gpe0_enable), a.field(s.sci);
}

u16 replace_byte(u16 word, bool high, u8 byte) {
  return static_cast<u16>(high ? (word & 0x00ff) | byte << 8 : (word & 0xff00) | byte);
}
u8 get_byte(u16 word, bool high) { return static_cast<u8>(high ? word >> 8 : word); }

}  // namespace

AcpiPm::AcpiPm(u16 base, u8 sleep_type_s5, const TimeSource& time, IrqLine sci,
               std::function<void()> power_off)
    : base_(base),
      sleep_type_s5_(sleep_type_s5),
      time_(time),
      sci_(std::move(sci)),
      power_off_(std::move(power_off)) {}

void AcpiPm::attach(IoBus& bus) { bus.attach_ports(base_, kPorts, this); }

void AcpiPm::reset() {
  const bool sci = s_.sci;
  s_ = State{};
  s_.sci = sci;
  s_.timer_half_periods = half_periods(time_.now());
  update();
}

void AcpiPm::save(StateWriter& w) const { serialize(w, s_); }

bool AcpiPm::restore(StateReader& r) {
  serialize(r, s_);
  const bool ok = r.ok() && !(s_.pm1_status & ~kStatusBits) && !(s_.pm1_enable & ~kEnableBits) &&
                  !(s_.pm1_control & ~(kBmRld | kSlpTyp)) && s_.timer_half_periods < u64{1} << 60;
  if (!ok) {
    reset();
    return false;
  }
  update();
  return true;
}

// TMR_STS is set whenever the top bit of the timer changes (ACPI 6.5 section 4.8.3.1.1).
void AcpiPm::settle_timer(VtimeNs now) {
  const u64 n = half_periods(now);
  if (n == s_.timer_half_periods) return;
  s_.timer_half_periods = n;
  s_.pm1_status |= kTmr;
}

void AcpiPm::update() {
  const bool sci = (s_.pm1_status & s_.pm1_enable) || (s_.gpe0_status & s_.gpe0_enable);
  if (sci != s_.sci) {
    s_.sci = sci;
    sci_(sci);
  }
  const bool awaited = (s_.pm1_enable & ~s_.pm1_status) & kTmr;
  next_event_ = awaited ? clock_.time_of(u128{s_.timer_half_periods + 1} << (kTimerBits - 1)) : kNeverNs;
}

void AcpiPm::advance(VtimeNs now) {
  if (now < next_event_) return;
  settle_timer(now);
  update();
}

void AcpiPm::power_button() {
  s_.pm1_status |= kPwrBtn;
  update();
}

void AcpiPm::rtc_alarm() {
  s_.pm1_status |= kRtc;
  update();
}

void AcpiPm::raise_gpe(unsigned n) {
  DEJA_CHECK(n < 16, "GPE {}", n);
  s_.gpe0_status |= static_cast<u16>(1 << n);
  update();
}

u8 AcpiPm::read_byte(u16 port) {
  const VtimeNs now = time_.now();
  const u16 offset = static_cast<u16>(port - base_);
  const bool high = offset & 1;
  switch (offset & ~1) {
    case kPm1aStatus:
      settle_timer(now);
      update();
      return get_byte(s_.pm1_status, high);
    case kPm1aEnable:
      return get_byte(s_.pm1_enable, high);
    case kPm1aControl:
      return get_byte(s_.pm1_control | kSciEn, high);
    case kPmTimer:
    case kPmTimer + 2: {
      const u32 timer = static_cast<u32>(clock_.ticks(now)) & ((1u << kTimerBits) - 1);
      return static_cast<u8>(timer >> (8 * (offset & 3)));
    }
    case kGpe0Status:
      return get_byte(s_.gpe0_status, high);
    case kGpe0Enable:
      return get_byte(s_.gpe0_enable, high);
    default:
      return 0;
  }
}

void AcpiPm::write_control(u16 value, bool high_byte) {
  s_.pm1_control = value & (kBmRld | kSlpTyp);
  if (!high_byte || !(value & kSlpEn)) return;
  const u8 type = static_cast<u8>(value >> 10 & 7);
  if (type == sleep_type_s5_) {
    power_off_();
    return;
  }
  // No other sleep state is offered. A guest that enters one wakes up at once.
  log_info("devices", "acpi_pm: sleep type {} does not exist", type);
  s_.pm1_status |= kWak;
}

void AcpiPm::write_byte(u16 port, u8 value) {
  settle_timer(time_.now());
  const u16 offset = static_cast<u16>(port - base_);
  const bool high = offset & 1;
  switch (offset & ~1) {
    case kPm1aStatus:  // write one to clear
      s_.pm1_status &= ~replace_byte(0, high, value);
      break;
    case kPm1aEnable:
      s_.pm1_enable = replace_byte(s_.pm1_enable, high, value) & kEnableBits;
      break;
    case kPm1aControl:
      write_control(replace_byte(s_.pm1_control, high, value), high);
      break;
    case kGpe0Status:
      s_.gpe0_status &= ~replace_byte(0, high, value);
      break;
    case kGpe0Enable:
      s_.gpe0_enable = replace_byte(s_.gpe0_enable, high, value);
      break;
    default:
      break;
  }
  update();
}

}  // namespace deja
