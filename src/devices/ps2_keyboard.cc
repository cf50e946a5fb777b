#include "devices/ps2_keyboard.h"

namespace deja {
namespace {

constexpr u8 kAcknowledge = 0xfa, kResend = 0xfe, kSelfTestPassed = 0xaa, kEcho = 0xee;
constexpr u8 kScanCodeSet = 2;

// Set 2 to set 1, for codes up to 7Fh.
constexpr u8 kTranslation[128] = {
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
};

template <class A, class S>
void serialize(A& a, S& s) {
  a.field(s.waiting), a.field(s.first), a.field(s.count), a.field(s.pending), a.field(s.last);
  a.field(s.leds), a.field(s.scanning);
}

}  // namespace

void Ps2Keyboard::save(StateWriter& w) const { serialize(w, s_); }

bool Ps2Keyboard::restore(StateReader& r) {
  serialize(r, s_);
  if (r.ok() && s_.first < kBuffer && s_.count <= kBuffer) return true;
  reset();
  return false;
}

u8 translate_scan_code(u8 byte, bool released) {
  const u8 code = byte < 0x80 ? kTranslation[byte] : byte == 0x83 ? u8{0x41} : byte == 0x84 ? u8{0x54} : byte;
  return released ? code | 0x80 : code;
}

void Ps2Keyboard::send(u8 byte) {
  if (s_.count == kBuffer) return;
  s_.waiting[(s_.first + s_.count++) % kBuffer] = byte;
}

std::optional<u8> Ps2Keyboard::next() {
  if (s_.count == 0) return std::nullopt;
  s_.last = s_.waiting[s_.first];
  s_.first = static_cast<u8>((s_.first + 1) % kBuffer);
  --s_.count;
  return s_.last;
}

void Ps2Keyboard::type(std::string_view codes) {
  if (!s_.scanning || codes.size() > kBuffer - s_.count) return;
  for (const char c : codes) send(static_cast<u8>(c));
}

void Ps2Keyboard::receive(u8 byte) {
  const u8 command = s_.pending;
  s_.pending = 0;
  switch (command) {
    case 0xed:
      s_.leds = byte & 7;
      return send(kAcknowledge);
    case 0xf0:
      send(kAcknowledge);
      if (byte == 0) send(kScanCodeSet);
      return;
    case 0xf3:  // rate and delay of repetition, which nobody sees: keys come as they are typed
      return send(kAcknowledge);
    default:
      break;
  }
  switch (byte) {
    case 0xed:  // LEDs
    case 0xf0:  // scan code set
    case 0xf3:
      s_.pending = byte;
      return send(kAcknowledge);
    case 0xee:
      return send(kEcho);
    case 0xf2:  // identify: a keyboard
      send(kAcknowledge);
      send(0xab);
      return send(0x83);
    case 0xf4:
      s_.scanning = true;
      return send(kAcknowledge);
    case 0xf5:
    case 0xf6:
      s_.scanning = byte == 0xf6;
      s_.count = 0;
      return send(kAcknowledge);
    case 0xfe:
      return send(s_.last);
    case 0xff:
      reset();
      send(kAcknowledge);
      return send(kSelfTestPassed);
    default:
      return send(byte >= 0xed ? kAcknowledge : kResend);
  }
}

}  // namespace deja
