#include "devices/i8254.h"

#include <algorithm>

namespace deja {
namespace {

constexpr u16 kPort61 = 0x61;
constexpr u8 kPort61Writable = 0x0f;
constexpr u8 kGate2 = 1 << 0;
// Channel 1 asked for a DRAM refresh every 18 ticks, about 15 us; port 61h bit 4 toggles with each. Programs
// time short delays by it, so it goes on even if nobody programs channel 1.
constexpr i64 kRefreshTicks = 18;

u32 from_bcd(u16 v) { return (v & 15) + 10 * (v >> 4 & 15) + 100 * (v >> 8 & 15) + 1000 * (v >> 12); }
u16 to_bcd(u32 v) {
  return static_cast<u16>(v % 10 | v / 10 % 10 << 4 | v / 100 % 10 << 8 | v / 1000 % 10 << 12);
}

template <class A, class S>
void serialize(A& a, S& s) {
  for (auto& c : s.channel) {
    a.field(c.mode), a.field(c.access), a.field(c.bcd), a.field(c.gate);
    a.field(c.write_high), a.field(c.read_high), a.field(c.write_low);
    a.field(c.count_latched), a.field(c.status_latched), a.field(c.latched_count), a.field(c.latched_status);
    a.field(c.count), a.field(c.running), a.field(c.period), a.field(c.start);
    a.field(c.held), a.field(c.elapsed), a.field(c.load_tick);
    a.field(c.reload_pending), a.field(c.reload_start);
  }
  a.field(s.port61), a.field(s.next_edge), a.field(s.irq);
}

}  // namespace

I8254::I8254(const TimeSource& time, IrqLine irq0) : time_(time), irq0_(std::move(irq0)) { reset(); }

void I8254::attach(IoBus& bus) {
  bus.attach_ports(0x40, 4, this);
  bus.attach_ports(kPort61, 1, this);
}

void I8254::reset() {
  const bool irq = s_.irq;
  s_ = State{};
  s_.channel[2].gate = false;
  next_event_ = kNeverNs;
  if (irq) irq0_(false);
}

void I8254::save(StateWriter& w) const { serialize(w, s_); }

bool I8254::valid(const Channel& c) {
  constexpr i64 kLatest = i64{1} << 55;  // ticks; beyond any VtimeNs
  const auto tick_ok = [](i64 t) { return t >= -65'536 && t < kLatest; };
  const u32 least = c.mode == 2 || c.mode == 3 ? 2 : 1;
  return c.mode <= 5 && c.access >= 1 && c.access <= 3 && c.count <= modulus(c) && c.period <= modulus(c) &&
         (!c.running || c.period >= least) && (!c.reload_pending || (c.running && c.count >= least)) &&
         tick_ok(c.start) && tick_ok(c.reload_start) && tick_ok(c.elapsed) &&
         (c.load_tick == kNoTick || tick_ok(c.load_tick));
}

bool I8254::restore(StateReader& r) {
  serialize(r, s_);
  bool ok = r.ok() && !(s_.port61 & ~kPort61Writable) && s_.next_edge >= 0;
  for (const Channel& c : s_.channel) ok = ok && valid(c);
  if (!ok) {
    reset();
    return false;
  }
  next_event_ = s_.next_edge == kNoTick ? kNeverNs : clock_.time_of(static_cast<u64>(s_.next_edge));
  return true;
}

// --- the counting element ---------------------------------------------------------------------------------

// Ticks counted since the load; negative while the load waits for the next clock pulse.
i64 I8254::elapsed(const Channel& c, i64 tick) { return c.held ? c.elapsed : tick - c.start; }

u32 I8254::value(const Channel& c, i64 tick) {
  const u32 mod = modulus(c);
  if (!c.running) return c.period % mod;
  const i64 e = std::max<i64>(elapsed(c, tick), 0);
  const u32 n = c.period;
  switch (c.mode) {
    case 2:
      return (n - static_cast<u32>(e % n)) % mod;
    case 3: {  // counts down by two, from an even value, in each half cycle
      const u32 p = static_cast<u32>(e % n), high = (n + 1) / 2;
      return ((n & ~1u) - 2 * (p < high ? p : p - high)) % mod;
    }
    default:  // wraps around after the terminal count
      return static_cast<u32>((n + mod - e % mod) % mod);
  }
}

bool I8254::output(const Channel& c, i64 tick) {
  if (!c.running) return c.mode != 0;
  const i64 e = elapsed(c, tick);
  const i64 n = c.period;
  switch (c.mode) {
    case 0:
    case 1:
      return e >= n;
    case 2:
      return c.held || e < 0 || e % n != n - 1;
    case 3:
      return c.held || e < 0 || e % n < (n + 1) / 2;
    default:  // 4, 5: a strobe of one clock
      return e != n;
  }
}

// The first tick after `tick` at which the output changes.
i64 I8254::next_edge(const Channel& c, i64 tick) {
  if (!c.running || c.held) return kNoTick;
  const i64 e = tick - c.start;
  const i64 n = c.period;
  const i64 p = e < 0 ? e : e % n;  // position in the cycle
  switch (c.mode) {
    case 0:
    case 1:
      return e < n ? c.start + n : kNoTick;
    case 2:
      return p < n - 1 ? tick + (n - 1 - p) : tick + 1;
    case 3:
      return p < (n + 1) / 2 ? tick + ((n + 1) / 2 - p) : tick + (n - p);
    default:
      return e < n ? c.start + n : e == n ? tick + 1 : kNoTick;
  }
}

// Puts a count that waited for the end of its (half) cycle into the counting element.
void I8254::settle(Channel& c, i64 tick) {
  if (!c.reload_pending || tick < c.load_tick) return;
  c.reload_pending = false;
  c.period = c.count;
  c.start = c.reload_start;
}

// The count register goes into the counting element at the clock pulse after `tick`.
void I8254::load(Channel& c, i64 tick) {
  c.running = true;
  c.reload_pending = false;
  c.period = c.count;
  c.start = c.load_tick = tick + 1;
  c.held = false;
  if (!c.gate && (c.mode == 0 || c.mode == 4)) {
    c.held = true;
    c.elapsed = 0;
  }
}

void I8254::set_count(Channel& c, u16 written, i64 tick) {
  u32 n = (c.bcd ? from_bcd(written) : written) % modulus(c);
  if (n == 0) n = modulus(c);
  if ((c.mode == 2 || c.mode == 3) && n == 1) n = 2;  // 1 is illegal there (data sheet, figure 22)
  c.count = n;
  switch (c.mode) {
    case 0:
    case 4:
      load(c, tick);
      break;
    case 1:
    case 5:
      c.load_tick = kNoTick;  // waits for a trigger
      break;
    default:
      if (!c.running) {
        if (c.gate) load(c, tick);
        break;
      }
      if (c.held) {
        c.load_tick = kNoTick;  // the gate's rising edge loads it
        break;
      }
      if (tick < c.start) {  // the load before has not happened yet
        c.period = n;
        break;
      }
      c.reload_pending = true;
      const i64 e = tick - c.start, old = c.period;
      const i64 high = (old + 1) / 2;
      if (c.mode == 3 && e % old < high) {
        // At the end of the high half; the low half that follows is already of the new length.
        c.load_tick = c.start + e / old * old + high;
        c.reload_start = c.load_tick - (n + 1) / 2;
      } else {
        c.load_tick = c.reload_start = c.start + (e / old + 1) * old;
      }
      break;
  }
}

void I8254::set_gate(Channel& c, bool gate, i64 tick) {
  if (gate == c.gate) return;
  settle(c, tick);
  c.gate = gate;
  if (c.count == 0) return;  // not programmed
  switch (c.mode) {
    case 0:
    case 4:
      if (!c.running) break;
      if (gate) {
        c.start = tick - c.elapsed;
        c.held = false;
      } else {
        c.elapsed = std::max<i64>(tick - c.start, 0);
        c.held = true;
      }
      break;
    case 1:
    case 5:
      if (gate) load(c, tick);
      break;
    default:
      if (gate) {
        load(c, tick);
      } else if (c.running) {
        c.elapsed = std::max<i64>(tick - c.start, 0);
        c.held = true;
        if (c.reload_pending) c.load_tick = kNoTick;
        c.reload_pending = false;
      }
      break;
  }
}

// --- programming ------------------------------------------------------------------------------------------

void I8254::latch_count(Channel& c, i64 tick) {
  if (c.count_latched) return;
  c.count_latched = true;
  const u32 v = value(c, tick);
  c.latched_count = c.bcd ? to_bcd(v) : static_cast<u16>(v);
}

void I8254::latch_status(Channel& c, i64 tick) {
  if (c.status_latched) return;
  c.status_latched = true;
  const bool null_count = tick < c.load_tick;
  c.latched_status =
      static_cast<u8>(output(c, tick) << 7 | null_count << 6 | c.access << 4 | c.mode << 1 | c.bcd);
}

u8 I8254::read_channel(Channel& c, i64 tick) {
  if (c.status_latched) {
    c.status_latched = false;
    return c.latched_status;
  }
  const u32 v = value(c, tick);
  const u16 count = c.count_latched ? c.latched_count : c.bcd ? to_bcd(v) : static_cast<u16>(v);
  const bool high = c.access == 2 || (c.access == 3 && c.read_high);
  if (c.access == 3) c.read_high = !c.read_high;
  if (c.access != 3 || high) c.count_latched = false;
  return static_cast<u8>(high ? count >> 8 : count);
}

void I8254::write_channel(Channel& c, u8 value, i64 tick) {
  if (c.access == 1) return set_count(c, value, tick);
  if (c.access == 2) return set_count(c, static_cast<u16>(value << 8), tick);
  if (!c.write_high) {
    c.write_low = value;
    c.write_high = true;
    if (c.mode == 0) c.running = false;  // the first byte stops the count and takes the output low
    return;
  }
  c.write_high = false;
  set_count(c, static_cast<u16>(value << 8 | c.write_low), tick);
}

void I8254::write_control(u8 value, i64 tick) {
  const unsigned select = value >> 6;
  if (select == 3) {  // read-back command: bits 5 and 4 are active low
    for (unsigned i = 0; i < 3; i++) {
      if (!(value >> (i + 1) & 1)) continue;
      Channel& c = s_.channel[i];
      if (!(value & 0x20)) latch_count(c, tick);
      if (!(value & 0x10)) latch_status(c, tick);
    }
    return;
  }
  Channel& c = s_.channel[select];
  const u8 access = value >> 4 & 3;
  if (access == 0) return latch_count(c, tick);
  Channel fresh;
  fresh.gate = c.gate;
  fresh.access = access;
  fresh.mode = value >> 1 & 7;
  if (fresh.mode > 5) fresh.mode -= 4;  // bit 2 is "don't care" in modes 2 and 3
  fresh.bcd = value & 1;
  c = fresh;
}

u8 I8254::read_byte(u16 port) {
  const VtimeNs now = time_.now();
  advance(now);
  const i64 tick = tick_at(now);
  if (port == kPort61) {
    Channel& c = s_.channel[2];
    settle(c, tick);
    return static_cast<u8>(s_.port61 | (tick / kRefreshTicks & 1) << 4 | output(c, tick) << 5);
  }
  if (port == 0x43) return 0xff;  // write-only
  Channel& c = s_.channel[port & 3];
  settle(c, tick);
  return read_channel(c, tick);
}

void I8254::write_byte(u16 port, u8 value) {
  const VtimeNs now = time_.now();
  advance(now);
  const i64 tick = tick_at(now);
  for (Channel& c : s_.channel) settle(c, tick);
  if (port == kPort61) {
    s_.port61 = value & kPort61Writable;
    set_gate(s_.channel[2], value & kGate2, tick);
    return;
  }
  if (port == 0x43) {
    write_control(value, tick);
  } else {
    write_channel(s_.channel[port & 3], value, tick);
  }
  update_channel0(tick);
}

bool I8254::output(unsigned channel) const {
  const i64 tick = tick_at(time_.now());
  Channel c = s_.channel[channel];
  settle(c, tick);
  return output(c, tick);
}

// --- channel 0 --------------------------------------------------------------------------------------------

void I8254::update_channel0(i64 tick) {
  Channel& c = s_.channel[0];
  const bool level = output(c, tick);
  if (level != s_.irq) {
    s_.irq = level;
    irq0_(level);
  }
  s_.next_edge = next_edge(c, tick);
  next_event_ = s_.next_edge == kNoTick ? kNeverNs : clock_.time_of(static_cast<u64>(s_.next_edge));
}

void I8254::advance(VtimeNs now) {
  while (now >= next_event_) {
    const i64 tick = s_.next_edge;
    settle(s_.channel[0], tick);
    update_channel0(tick);
  }
}

}  // namespace deja
