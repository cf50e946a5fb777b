// Framing of the event log: a file header, then frames whose checksums are chained, so that a changed,
// missing, repeated or exchanged byte anywhere is found, and told apart from a last frame that was not
// written in full.
//
//   file header  "DEJALOG\n"  u32 version  u32 zero  u64 XXH3 of the 16 bytes before
//   frame        u8 magic  u24 size of payload, bit 23 = zstd-compressed  u16 check of these four bytes
//                u64 checksum of header and payload  payload
//
// Little-endian. Both checks are seeded with the checksum of the frame before (of the file header, for the
// first). Small on purpose: a busy guest writes one frame a second, and a minute's frames must stay below 1
// KiB.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/types.h"

namespace deja {

inline constexpr u32 kLogVersion = 3;
inline constexpr std::size_t kFileHeaderSize = 24;
inline constexpr std::size_t kFrameHeaderSize = 14;
inline constexpr std::size_t kMaxFrameRaw = 1 << 20;  // bytes of events in one frame, uncompressed

std::string make_file_header(u64* chain);
// `where` names the file in messages. On success *chain seeds the first frame.
Status check_file_header(std::string_view header, const std::string& where, u64* chain);

// A whole frame around `raw` (1 to kMaxFrameRaw bytes). *checksum is its checksum, the seed of the next
// frame.
std::string make_frame(std::string_view raw, u64 chain, u64* checksum);

struct FrameHeader {
  std::size_t payload_size = 0;
  bool compressed = false;
  u64 checksum = 0;
};
// From exactly kFrameHeaderSize bytes. Errors say what is wrong, not where.
Result<FrameHeader> parse_frame_header(std::string_view bytes, u64 chain);
// Verifies and unpacks. `frame` is header and payload.
Result<std::string> open_frame(std::string_view frame, const FrameHeader& header, u64 chain);

}  // namespace deja
