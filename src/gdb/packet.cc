#include "gdb/packet.h"

#include "base/check.h"

namespace deja {
namespace {

constexpr char kInterrupt = 3, kEscape = '}', kEscapeBit = 0x20;
constexpr std::string_view kDigits = "0123456789abcdef";

}  // namespace

void GdbPacketReader::feed(std::string_view bytes) {
  for (const char c : bytes) {
    switch (state_) {
      case State::idle:
        if (c == '$') {
          raw_.clear();
          sum_ = 0;
          too_long_ = false;
          state_ = State::payload;
        } else if (c == kInterrupt) {
          ready_.push_back({GdbInput::Kind::interrupt, {}});
        } else if (c == '-') {
          ready_.push_back({GdbInput::Kind::resend, {}});
        }
        break;
      case State::payload:
        if (c == '#') {
          state_ = State::sum_high;
          break;
        }
        if (c == '$') {  // a packet was cut off; this is the next one
          raw_.clear();
          sum_ = 0;
          too_long_ = false;
          break;
        }
        sum_ = static_cast<u8>(sum_ + static_cast<u8>(c));
        if (raw_.size() < kMaxPayload)
          raw_.push_back(c);
        else
          too_long_ = true;
        break;
      case State::sum_high:
        expected_ = static_cast<u8>(hex_digit(c) << 4);
        state_ = State::sum_low;
        if (hex_digit(c) < 0) too_long_ = true;
        break;
      case State::sum_low:
        expected_ = static_cast<u8>(expected_ | (hex_digit(c) & 15));
        if (hex_digit(c) < 0) too_long_ = true;
        finish();
        state_ = State::idle;
        break;
    }
  }
}

void GdbPacketReader::finish() {
  GdbInput in{too_long_ || sum_ != expected_ ? GdbInput::Kind::damaged : GdbInput::Kind::packet, {}};
  for (std::size_t i = 0; i < raw_.size() && in.kind == GdbInput::Kind::packet; ++i) {
    char c = raw_[i];
    if (c == kEscape) {
      if (++i == raw_.size()) {
        in.kind = GdbInput::Kind::damaged;
        break;
      }
      c = static_cast<char>(raw_[i] ^ kEscapeBit);
    }
    in.payload.push_back(c);
  }
  if (in.kind == GdbInput::Kind::damaged) in.payload.clear();
  ready_.push_back(std::move(in));
}

GdbInput GdbPacketReader::next() {
  DEJA_CHECK(!ready_.empty());
  GdbInput in = std::move(ready_.front());
  ready_.pop_front();
  return in;
}

std::string gdb_packet(std::string_view payload) {
  std::string out = "$";
  u8 sum = 0;
  const auto put = [&](char c) {
    out.push_back(c);
    sum = static_cast<u8>(sum + static_cast<u8>(c));
  };
  for (const char c : payload) {
    if (c == '$' || c == '#' || c == kEscape || c == '*') {
      put(kEscape);
      put(static_cast<char>(c ^ kEscapeBit));
    } else {
      put(c);
    }
  }
  out.push_back('#');
  out.push_back(kDigits[sum >> 4]);
  out.push_back(kDigits[sum & 15]);
  return out;
}

std::string to_hex(const void* bytes, std::size_t size) {
  const u8* p = static_cast<const u8*>(bytes);
  std::string out;
  out.reserve(size * 2);
  for (std::size_t i = 0; i < size; ++i) {
    out.push_back(kDigits[p[i] >> 4]);
    out.push_back(kDigits[p[i] & 15]);
  }
  return out;
}

bool from_hex(std::string_view text, std::string* bytes) {
  if (text.size() % 2) return false;
  bytes->clear();
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const int high = hex_digit(text[i]), low = hex_digit(text[i + 1]);
    if (high < 0 || low < 0) return false;
    bytes->push_back(static_cast<char>(high << 4 | low));
  }
  return true;
}

bool GdbFields::number(u64* value) {
  *value = 0;
  std::size_t n = 0;
  while (n < text_.size() && hex_digit(text_[n]) >= 0) {
    if (n == 16) return false;
    *value = *value << 4 | static_cast<u64>(hex_digit(text_[n++]));
  }
  text_.remove_prefix(n);
  return n > 0;
}

bool GdbFields::literal(char c) {
  if (text_.empty() || text_.front() != c) return false;
  text_.remove_prefix(1);
  return true;
}

bool GdbFields::literal(std::string_view s) {
  if (!text_.starts_with(s)) return false;
  text_.remove_prefix(s.size());
  return true;
}

bool GdbFields::thread(i64* id) {
  const bool negative = literal('-');
  u64 n = 0;
  if (!number(&n) || n > 0xffff || (negative && n != 1)) return false;
  *id = negative ? -1 : static_cast<i64>(n);
  return true;
}

}  // namespace deja
