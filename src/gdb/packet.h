// The packet layer of gdb's remote serial protocol: $payload#checksum, acknowledgements, and the interrupt
// byte (GDB manual, appendix E.1).
#pragma once

#include <deque>
#include <string>
#include <string_view>

#include "base/types.h"

namespace deja {

struct GdbInput {
  enum class Kind : u8 {
    packet,     // payload is complete and its checksum fits
    damaged,    // to be answered by '-' unless acknowledgements are off
    resend,     // '-': the peer wants the last packet again
    interrupt,  // byte 03h, Ctrl-C
  } kind = Kind::packet;
  std::string payload;  // escapes undone
};

// Cuts a byte stream into packets. Any input is safe: what is too long, or not of the protocol, is dropped.
class GdbPacketReader {
 public:
  // Payloads, as they are sent, of up to this many bytes; announced as PacketSize.
  static constexpr std::size_t kMaxPayload = 64 * 1024;

  void feed(std::string_view bytes);
  bool empty() const { return ready_.empty(); }
  GdbInput next();

 private:
  void finish();

  enum class State : u8 { idle, payload, sum_high, sum_low } state_ = State::idle;
  std::string raw_;
  bool too_long_ = false;
  u8 sum_ = 0, expected_ = 0;
  std::deque<GdbInput> ready_;
};

// The packet that carries `payload`, escaped where it must be.
std::string gdb_packet(std::string_view payload);

// --- numbers and bytes in payloads

constexpr int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}
std::string to_hex(const void* bytes, std::size_t size);
inline std::string to_hex(std::string_view bytes) { return to_hex(bytes.data(), bytes.size()); }
// False: an odd number of digits, or something that is none.
bool from_hex(std::string_view text, std::string* bytes);

// Takes a packet's fields from the front, leaving the rest. All return false where the text is otherwise.
class GdbFields {
 public:
  explicit GdbFields(std::string_view text) : text_(text) {}
  bool number(u64* value);  // hexadecimal, 1 to 16 digits
  bool literal(char c);
  bool literal(std::string_view s);
  // -1 (all) and 0 (any) come back as they are; ids are above 0.
  bool thread(i64* id);
  std::string_view rest() const { return text_; }
  bool done() const { return text_.empty(); }

 private:
  std::string_view text_;
};

}  // namespace deja
