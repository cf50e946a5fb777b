#include "eventlog/event_codec.h"

#include "base/check.h"

namespace deja {
namespace {

// Kind bytes in the file. Numbers are never given out twice; a new kind needs a new log version.
enum class Kind : u8 {
  serial = 1,
  serial_break = 2,
  power = 3,
  nmi = 4,
  reset = 5,
  pause = 6,
  resume = 7,
  mark = 8,
  wall_clock = 9,
  progress = 10,
  idle_cut = 11,
  digest = 12,
  end = 13,
  frame = 14,
  keys = 15,
};

// Signed numbers of small magnitude become small unsigned ones: 0, -1, 1, -2… to 0, 1, 2, 3…
u64 zigzag(i64 x) { return (static_cast<u64>(x) << 1) ^ static_cast<u64>(x >> 63); }
i64 unzigzag(u64 x) { return static_cast<i64>((x >> 1) ^ (~(x & 1) + 1)); }

void put_u64(std::string& out, u64 x) {
  for (int i = 0; i < 8; ++i) out += static_cast<char>(x >> (8 * i));
}

void put_text(std::string& out, std::string_view text) {
  DEJA_CHECK(text.size() <= kMaxEventBytes, "{} bytes in one event", text.size());
  put_varint(out, text.size());
  out += text;
}

// Writes one event's fields after kind and step.
struct Encoder {
  CodecState& state;
  std::string& out;

  Kind operator()(const input::SerialBytes& e) {
    out += static_cast<char>(e.port);
    put_text(out, e.bytes);
    return Kind::serial;
  }
  Kind operator()(const input::NetFrame& e) {
    out += static_cast<char>(e.nic);
    put_text(out, e.bytes);
    return Kind::frame;
  }
  Kind operator()(const input::Keys& e) {
    put_text(out, e.codes);
    return Kind::keys;
  }
  Kind operator()(const input::SerialBreak& e) {
    out += static_cast<char>(e.port);
    return Kind::serial_break;
  }
  Kind operator()(const input::PowerButton&) { return Kind::power; }
  Kind operator()(const input::NmiButton&) { return Kind::nmi; }
  Kind operator()(const input::ResetButton&) { return Kind::reset; }
  Kind operator()(const input::Pause&) { return Kind::pause; }
  Kind operator()(const input::Resume&) { return Kind::resume; }
  Kind operator()(const input::Mark& e) {
    put_text(out, e.text);
    return Kind::mark;
  }
  Kind operator()(const event::WallClock& e) {
    put_varint(out, zigzag(e.unix_ns));
    return Kind::wall_clock;
  }
  Kind operator()(const event::Progress& e) {
    DEJA_CHECK(e.host_ns >= state.host_ns, "progress marks at host times {} and then {}", state.host_ns,
               e.host_ns);
    put_varint(out, e.host_ns - state.host_ns);
    state.host_ns = e.host_ns;
    return Kind::progress;
  }
  Kind operator()(const event::IdleCut& e) {
    put_varint(out, e.warp_ns);
    return Kind::idle_cut;
  }
  Kind operator()(const event::Digest& e) {
    put_u64(out, e.cpu);
    put_u64(out, e.ram);
    put_u64(out, e.devices);
    return Kind::digest;
  }
  Kind operator()(const event::End& e) {
    out += static_cast<char>(e.reason);
    put_varint(out, e.code);
    put_text(out, e.detail);
    return Kind::end;
  }
};

// Takes fields off the front; once something is missing or out of range, `bad` says so and zeros come back.
struct Decoder {
  std::string_view& in;
  const char* bad = nullptr;

  u64 varint() {
    u64 x = 0;
    if (!get_varint(in, &x)) bad = "an integer that does not end or does not fit into 64 bits";
    return x;
  }
  u8 byte() {
    if (in.empty()) {
      bad = "an event cut short";
      return 0;
    }
    const u8 b = static_cast<u8>(in.front());
    in.remove_prefix(1);
    return b;
  }
  u64 fixed64() {
    u64 x = 0;
    for (int i = 0; i < 8; ++i) x |= u64{byte()} << (8 * i);
    return x;
  }
  std::string text() {
    const u64 size = varint();
    if (size > kMaxEventBytes || size > in.size()) {
      bad = "a text longer than its frame or than 64 KiB";
      return {};
    }
    std::string s(in.substr(0, size));
    in.remove_prefix(size);
    return s;
  }
};

Result<event::End> decode_end(Decoder& d) {
  event::End end;
  const u8 reason = d.byte();
  if (reason >= event::kEndReasons) return make_error("end reason {}, which does not exist", reason);
  end.reason = static_cast<event::EndReason>(reason);
  const u64 code = d.varint();
  if (code > ~u32{0}) return make_error("exit code {}, larger than 32 bits", code);
  end.code = static_cast<u32>(code);
  end.detail = d.text();
  return end;
}

}  // namespace

void put_varint(std::string& out, u64 value) {
  while (value >= 0x80) {
    out += static_cast<char>(value | 0x80);
    value >>= 7;
  }
  out += static_cast<char>(value);
}

bool get_varint(std::string_view& in, u64* value) {
  u64 x = 0;
  for (unsigned shift = 0; shift < 64 && !in.empty(); shift += 7) {
    const u8 b = static_cast<u8>(in.front());
    in.remove_prefix(1);
    if (shift == 63 && b > 1) return false;
    x |= u64{b & 0x7fu} << shift;
    if (!(b & 0x80)) {
      *value = x;
      return true;
    }
  }
  return false;
}

void encode_event(const LogEvent& event, CodecState& state, std::string& out) {
  DEJA_CHECK(event.step >= state.step, "event at step {} after one at step {}", event.step, state.step);
  const std::size_t kind_at = out.size();
  out += '\0';
  put_varint(out, event.step - state.step);
  state.step = event.step;
  out[kind_at] = static_cast<char>(std::visit(Encoder{state, out}, event.body));
}

Result<LogEvent> decode_event(std::string_view& in, CodecState& state) {
  Decoder d{in};
  LogEvent event;
  const u8 kind = d.byte();
  const u64 step_delta = d.varint();
  if (step_delta > kNeverStep - 1 - state.step) return make_error("a step beyond the largest possible one");
  event.step = state.step + step_delta;
  switch (static_cast<Kind>(kind)) {
    case Kind::serial: {
      const u8 port = d.byte();
      event.body = input::SerialBytes{port, d.text()};
      break;
    }
    case Kind::frame: {
      const u8 nic = d.byte();
      event.body = input::NetFrame{nic, d.text()};
      break;
    }
    case Kind::keys:
      event.body = input::Keys{d.text()};
      break;
    case Kind::serial_break:
      event.body = input::SerialBreak{d.byte()};
      break;
    case Kind::power:
      event.body = input::PowerButton{};
      break;
    case Kind::nmi:
      event.body = input::NmiButton{};
      break;
    case Kind::reset:
      event.body = input::ResetButton{};
      break;
    case Kind::pause:
      event.body = input::Pause{};
      break;
    case Kind::resume:
      event.body = input::Resume{};
      break;
    case Kind::mark:
      event.body = input::Mark{d.text()};
      break;
    case Kind::wall_clock:
      event.body = event::WallClock{unzigzag(d.varint())};
      break;
    case Kind::progress: {
      const u64 delta = d.varint();
      if (delta > ~state.host_ns) return make_error("a progress mark beyond the largest possible host time");
      state.host_ns += delta;
      event.body = event::Progress{state.host_ns};
      break;
    }
    case Kind::idle_cut:
      event.body = event::IdleCut{d.varint()};
      break;
    case Kind::digest: {
      event::Digest digest;
      digest.cpu = d.fixed64();
      digest.ram = d.fixed64();
      digest.devices = d.fixed64();
      event.body = digest;
      break;
    }
    case Kind::end: {
      DEJA_ASSIGN(event.body, decode_end(d));
      break;
    }
    default:
      return make_error("event kind {}, which does not exist", kind);
  }
  if (d.bad) return make_error("{}", d.bad);
  state.step = event.step;
  return event;
}

}  // namespace deja
