#include "devices/mc146818.h"

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "devices/oscillator.h"

namespace deja {
namespace {

enum : u8 {
  kSeconds = 0x00,
  kSecondsAlarm = 0x01,
  kMinutes = 0x02,
  kMinutesAlarm = 0x03,
  kHours = 0x04,
  kHoursAlarm = 0x05,
  kWeekday = 0x06,  // 1 = Sunday
  kDay = 0x07,
  kMonth = 0x08,
  kYear = 0x09,
  kRegA = 0x0a,
  kRegB = 0x0b,
  kRegC = 0x0c,
  kRegD = 0x0d,
  kCentury = 0x32,
};

constexpr u8 kUip = 0x80;                                         // register A
constexpr u8 kSet = 0x80, kPie = 0x40, kAie = 0x20, kUie = 0x10;  // register B
constexpr u8 kSqwe = 0x08, kBinary = 0x04, kHours24 = 0x02;
constexpr u8 kIrqf = 0x80, kPf = 0x40, kAf = 0x20, kUf = 0x10;  // register C
constexpr u8 kFlags = kPf | kAf | kUf;                          // at the same bits as their enables
constexpr u8 kVrt = 0x80;                                       // register D: battery good
constexpr u8 kPm = 0x80;                                        // hours in 12-hour mode

constexpr i64 kSecond = kNsPerSecond;
constexpr u64 kCrystalHz = 32'768;
// UIP rises at least 244 us (8 periods of the crystal) before the registers change (data sheet, "update
// cycle").
constexpr i64 kUipNs = 8 * kSecond / kCrystalHz;
constexpr i64 kSecondsPerDay = 86'400;
constexpr i64 kLatest = i64{1} << 62;

i64 floor_div(i64 a, i64 b) { return a / b - (a % b < 0); }

struct Date {
  i64 year;
  unsigned month, day;
};

// Proleptic Gregorian calendar, after "chrono-Compatible Low-Level Date Algorithms" (H. Hinnant).
i64 days_from_date(const Date& d) {
  const i64 y = d.year - (d.month <= 2);
  const i64 era = floor_div(y, 400);
  const i64 year_of_era = y - era * 400;
  const i64 day_of_year = (153 * ((d.month + 9) % 12) + 2) / 5 + d.day - 1;
  return era * 146'097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719'468;
}

Date date_from_days(i64 days) {
  days += 719'468;
  const i64 era = floor_div(days, 146'097);
  const i64 day_of_era = days - era * 146'097;
  const i64 year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
  const i64 day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const i64 mp = (5 * day_of_year + 2) / 153;
  const unsigned month = static_cast<unsigned>(mp < 10 ? mp + 3 : mp - 9);
  return {year_of_era + era * 400 + (month <= 2), month,
          static_cast<unsigned>(day_of_year - (153 * mp + 2) / 5 + 1)};
}

// 0 = Sunday.
unsigned weekday_of(i64 days) { return static_cast<unsigned>((days % 7 + 7 + 4) % 7); }

bool is_time_register(u8 index) {
  return index == kSeconds || index == kMinutes || index == kHours || (index >= kWeekday && index <= kYear) ||
         index == kCentury;
}

template <class A, class S>
void serialize(A& a, S& s) {
  a.field(s.index), a.field(s.ram), a.field(s.divider_start), a.field(s.epoch_seconds);
  a.field(s.weekday_shift), a.field(s.flags_time), a.field(s.irq), a.field(s.alarm);
}

}  // namespace

Mc146818::Mc146818(const TimeSource& time, IrqLine irq8, std::function<void()> alarm)
    : time_(time), irq8_(std::move(irq8)), alarm_(std::move(alarm)) {
  s_.ram[kRegA] = 0x26;  // 32768 Hz crystal, 1024 Hz periodic rate: what PC firmware sets
  s_.ram[kRegB] = kHours24;
  s_.ram[kRegD] = kVrt;
}

void Mc146818::attach(IoBus& bus) { bus.attach_ports(0x70, 2, this); }

void Mc146818::set_time_base(i64 unix_seconds) {
  const VtimeNs now = time_.now();
  settle_flags(now);
  s_.epoch_seconds = std::clamp<i64>(unix_seconds, -(i64{1} << 40), i64{1} << 40) - seconds_at(now);
  s_.weekday_shift = 0;
  update_next_event();
}

void Mc146818::set_byte(u8 index, u8 value) {
  DEJA_CHECK(index > kRegD && index < kSize && index != kCentury, "CMOS byte {:#x}", index);
  s_.ram[index] = value;
}

void Mc146818::set_memory_size(u64 low, u64 high) {
  const auto set16 = [this](u8 index, u64 value) {
    const u64 v = std::min<u64>(value, 0xffff);
    set_byte(index, static_cast<u8>(v));
    set_byte(static_cast<u8>(index + 1), static_cast<u8>(v >> 8));
  };
  const u64 extended = low > 1_MiB ? low - 1_MiB : 0;
  set16(0x15, 640);             // base memory, KiB
  set16(0x17, extended >> 10);  // extended memory, KiB, twice
  set16(0x30, extended >> 10);
  set16(0x34, low > 16_MiB ? (low - 16_MiB) >> 16 : 0);  // above 16 MiB, in 64 KiB
  const u64 above_4g = high >> 16;  // above 4 GiB, in 64 KiB: three bytes (SeaBIOS, QEMU)
  for (unsigned i = 0; i < 3; i++) set_byte(static_cast<u8>(0x5b + i), static_cast<u8>(above_4g >> (8 * i)));
}

void Mc146818::reset() {
  settle_flags(time_.now());
  s_.index = 0;
  s_.ram[kRegB] &= ~(kPie | kAie | kUie | kSqwe);
  s_.ram[kRegC] = 0;
  update_irq();
  update_next_event();
}

void Mc146818::save(StateWriter& w) const { serialize(w, s_); }

bool Mc146818::restore(StateReader& r) {
  serialize(r, s_);
  const auto in_range = [](i64 v, i64 limit) { return v > -limit && v < limit; };
  if (!r.ok() || s_.index >= kSize || s_.weekday_shift > 6 || !in_range(s_.divider_start, kLatest) ||
      !in_range(s_.epoch_seconds, i64{1} << 42) || s_.flags_time >= static_cast<u64>(kLatest)) {
    const bool irq = s_.irq;
    s_ = State{};
    s_.irq = irq;
    s_.ram[kRegA] = 0x26;
    s_.ram[kRegB] = kHours24;
    s_.ram[kRegD] = kVrt;
    reset();
    return false;
  }
  update_next_event();
  return true;
}

// --- the calendar -----------------------------------------------------------------------------------------

bool Mc146818::divider_reset() const { return (s_.ram[kRegA] & 0x60) == 0x60; }

bool Mc146818::clock_runs() const { return !divider_reset() && !(s_.ram[kRegB] & kSet); }

i64 Mc146818::seconds_at(VtimeNs t) const {
  return floor_div(static_cast<i64>(std::min<u64>(t, kLatest)) - s_.divider_start, kSecond);
}

u8 Mc146818::encode(unsigned value) const {
  return static_cast<u8>(s_.ram[kRegB] & kBinary ? value : value / 10 % 10 << 4 | value % 10);
}

unsigned Mc146818::decode(u8 value) const {
  return s_.ram[kRegB] & kBinary ? value : (value >> 4) * 10u + (value & 15);
}

u8 Mc146818::encode_hour(unsigned hour) const {
  if (s_.ram[kRegB] & kHours24) return encode(hour);
  const unsigned h = hour % 12 == 0 ? 12 : hour % 12;
  return encode(h) | (hour >= 12 ? kPm : 0);
}

unsigned Mc146818::decode_hour(u8 value) const {
  if (s_.ram[kRegB] & kHours24) return decode(value);
  return decode(value & 0x7f) % 12 + (value & kPm ? 12 : 0);
}

void Mc146818::store_time(VtimeNs now) {
  const i64 seconds = s_.epoch_seconds + seconds_at(now);
  const i64 days = floor_div(seconds, kSecondsPerDay);
  const unsigned second = static_cast<unsigned>(seconds - days * kSecondsPerDay);
  const Date date = date_from_days(days);
  const unsigned year = static_cast<unsigned>((date.year % 10'000 + 10'000) % 10'000);
  s_.ram[kSeconds] = encode(second % 60);
  s_.ram[kMinutes] = encode(second / 60 % 60);
  s_.ram[kHours] = encode_hour(second / 3600);
  s_.ram[kWeekday] = encode((weekday_of(days) + s_.weekday_shift) % 7 + 1);
  s_.ram[kDay] = encode(date.day);
  s_.ram[kMonth] = encode(date.month);
  s_.ram[kYear] = encode(year % 100);
  s_.ram[kCentury] = encode(year / 100);
}

// Values that are no time of day or date are brought into range, since the calendar is kept as one number.
void Mc146818::load_time(VtimeNs now) {
  Date date;
  date.year = decode(s_.ram[kCentury]) % 100 * 100 + decode(s_.ram[kYear]) % 100;
  date.month = std::clamp(decode(s_.ram[kMonth]), 1u, 12u);
  date.day = std::clamp(decode(s_.ram[kDay]), 1u, 31u);
  const i64 days = days_from_date(date);
  const i64 second = i64{std::min(decode_hour(s_.ram[kHours]), 23u)} * 3600 +
                     std::min(decode(s_.ram[kMinutes]), 59u) * 60 + std::min(decode(s_.ram[kSeconds]), 59u);
  s_.epoch_seconds = days * kSecondsPerDay + second - seconds_at(now);
  s_.weekday_shift = static_cast<u8>((decode(s_.ram[kWeekday]) + 6 + 7 - weekday_of(days)) % 7);
}

// --- interrupts -------------------------------------------------------------------------------------------

// Register A bits 3:0 with a 32768 Hz time base (data sheet, table 5).
unsigned Mc146818::periodic_ticks() const {
  const unsigned rate = s_.ram[kRegA] & 15;
  if (rate == 0 || divider_reset()) return 0;
  return rate <= 2 ? 1u << (rate + 6) : 1u << (rate - 1);
}

// C0h..FFh match any value.
bool Mc146818::alarm_matches(u8 alarm, u8 encoded) const { return alarm >= 0xc0 || alarm == encoded; }

// The first second of the calendar after `after` that the alarm registers match; -1 in effect "never".
i64 Mc146818::next_alarm(i64 after) const {
  i64 t = after + 1;
  // A day has 24 hours, 60 minutes to look through in the right one, 60 seconds in that; with the first ones
  // possibly begun already, twice that many steps reach a match or show that there is none.
  for (unsigned step = 0; step < 2 * (24 + 60 + 60); step++) {
    const unsigned second = static_cast<unsigned>(t - floor_div(t, kSecondsPerDay) * kSecondsPerDay);
    if (!alarm_matches(s_.ram[kHoursAlarm], encode_hour(second / 3600))) {
      t += 3600 - second % 3600;
    } else if (!alarm_matches(s_.ram[kMinutesAlarm], encode(second / 60 % 60))) {
      t += 60 - second % 60;
    } else if (!alarm_matches(s_.ram[kSecondsAlarm], encode(second % 60))) {
      t += 1;
    } else {
      return t;
    }
  }
  return INT64_MAX;
}

// Sets the flags of what happened since flags_time.
void Mc146818::settle_flags(VtimeNs now) {
  if (now <= s_.flags_time) return;
  const VtimeNs then = s_.flags_time;
  s_.flags_time = now;
  u8& c = s_.ram[kRegC];
  if (const unsigned period = periodic_ticks()) {
    const auto periods = [&](VtimeNs t) {
      const i64 since = std::max<i64>(static_cast<i64>(t) - s_.divider_start, 0);
      return Oscillator{kCrystalHz}.ticks(static_cast<u64>(since)) / period;
    };
    if (periods(now) != periods(then)) c |= kPf;
  }
  if (!clock_runs()) return;
  const i64 before = seconds_at(then), after = seconds_at(now);
  if (after == before) return;
  c |= kUf;
  if (!(c & kAf) && next_alarm(s_.epoch_seconds + before) <= s_.epoch_seconds + after) c |= kAf;
}

void Mc146818::update_irq() {
  u8& c = s_.ram[kRegC];
  const bool irq = c & s_.ram[kRegB] & kFlags;
  c = irq ? c | kIrqf : c & ~kIrqf;
  if (irq != s_.irq) {
    s_.irq = irq;
    irq8_(irq);
  }
  const bool alarm = c & s_.ram[kRegB] & kAf;
  if (std::exchange(s_.alarm, alarm) < alarm && alarm_) alarm_();
}

void Mc146818::update_next_event() {
  next_event_ = kNeverNs;
  const u8 awaited = s_.ram[kRegB] & kFlags & ~s_.ram[kRegC];
  if (!awaited) return;
  const auto consider = [this](i128 t) {
    if (t >= 0 && t < kLatest) next_event_ = std::min(next_event_, static_cast<VtimeNs>(t));
  };
  if (const unsigned period = periodic_ticks(); period && (awaited & kPf)) {
    const Oscillator crystal{kCrystalHz};
    const i64 since = std::max<i64>(static_cast<i64>(s_.flags_time) - s_.divider_start, 0);
    const u64 next = crystal.ticks(static_cast<u64>(since)) / period + 1;
    consider(i128{crystal.time_of(u128{next} * period)} + s_.divider_start);
  }
  if (!clock_runs()) return;
  const i64 second = seconds_at(s_.flags_time);
  if (awaited & kUf) consider(i128{second + 1} * kSecond + s_.divider_start);
  if (awaited & kAf) {
    const i64 alarm = next_alarm(s_.epoch_seconds + second);
    if (alarm != INT64_MAX) consider(i128{alarm - s_.epoch_seconds} * kSecond + s_.divider_start);
  }
}

void Mc146818::advance(VtimeNs now) {
  if (now < next_event_) return;
  settle_flags(now);
  update_irq();
  update_next_event();
}

// --- ports ------------------------------------------------------------------------------------------------

u8 Mc146818::read_register(u8 index) {
  const VtimeNs now = time_.now();
  advance(now);
  if (is_time_register(index)) {
    if (clock_runs()) store_time(now);
    return s_.ram[index];
  }
  if (index == kRegA) {
    if (!clock_runs()) return s_.ram[kRegA];
    const i64 next = (seconds_at(now) + 1) * kSecond + s_.divider_start;
    const bool updating = next - static_cast<i64>(std::min<u64>(now, kLatest)) <= kUipNs;
    return s_.ram[kRegA] | (updating ? kUip : 0);
  }
  if (index != kRegC) return s_.ram[index];
  settle_flags(now);
  update_irq();
  const u8 value = s_.ram[kRegC];
  s_.ram[kRegC] = 0;
  update_irq();
  update_next_event();
  return value;
}

void Mc146818::write_register(u8 index, u8 value) {
  const VtimeNs now = time_.now();
  advance(now);
  settle_flags(now);
  const bool ran = clock_runs();
  if (index == kRegA) {
    const bool was_reset = divider_reset();
    if (ran) store_time(now);
    s_.ram[kRegA] = value & 0x7f;
    // Released from reset, the divider chain makes its first update half a second later.
    if (was_reset && !divider_reset())
      s_.divider_start = static_cast<i64>(std::min<u64>(now, kLatest - kSecond)) - kSecond / 2;
    if (was_reset != divider_reset() && clock_runs()) load_time(now);
  } else if (index == kRegB) {
    if (ran) store_time(now);
    if (value & kSet) value &= ~kUie;
    s_.ram[kRegB] = value;
    if (!ran && clock_runs()) load_time(now);
  } else if (index == kRegC || index == kRegD) {
    return;  // read-only
  } else if (is_time_register(index)) {
    if (ran) store_time(now);
    s_.ram[index] = value;
    if (ran) load_time(now);
  } else {
    s_.ram[index] = value;
  }
  update_irq();
  update_next_event();
}

u8 Mc146818::read_byte(u16 port) {
  return port & 1 ? read_register(s_.index) : 0xff;  // the index is write-only
}

void Mc146818::write_byte(u16 port, u8 value) {
  if (port & 1) {
    write_register(s_.index, value);
  } else {
    s_.index = value & 0x7f;  // bit 7 masks NMI on real boards; nothing here would be masked by it
  }
}

}  // namespace deja
