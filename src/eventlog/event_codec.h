// Events to bytes and back: kind, step as difference to the event before, then the kind's fields; integers
// are LEB128 (docs/recording-format.md). State runs on from frame to frame.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "eventlog/events.h"

namespace deja {

// What the differences are taken to; equal in writer and reader at equal places of the log.
struct CodecState {
  Step step = 0;
  u64 host_ns = 0;  // of the last Progress
};

// Longest text or run of serial bytes in one event. Longer ones must be split by the caller of encode_event.
inline constexpr std::size_t kMaxEventBytes = 64 * 1024;

void encode_event(const LogEvent& event, CodecState& state, std::string& out);

// Takes one event off the front of `in`. The message of an error says what is wrong, not where.
Result<LogEvent> decode_event(std::string_view& in, CodecState& state);

void put_varint(std::string& out, u64 value);
// False when `in` ends too early or the value does not fit into 64 bits.
bool get_varint(std::string_view& in, u64* value);

}  // namespace deja
