#include "eventlog/frame.h"

#include <xxhash.h>
#include <zstd.h>

#include <cstring>

#include "base/check.h"

namespace deja {
namespace {

constexpr std::string_view kFileMagic = "DEJALOG\n";
constexpr u8 kFrameMagic = 0xd5;
constexpr u32 kCompressed = 1u << 23;
constexpr int kZstdLevel = 3;

u64 hash(std::string_view bytes, u64 seed) { return XXH3_64bits_withSeed(bytes.data(), bytes.size(), seed); }

void put_le(std::string& out, u64 x, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) out += static_cast<char>(x >> (8 * i));
}

u64 get_le(std::string_view in, std::size_t at, unsigned bytes) {
  u64 x = 0;
  for (unsigned i = 0; i < bytes; ++i) x |= u64{static_cast<u8>(in[at + i])} << (8 * i);
  return x;
}

// Checksum of a frame: of its first six bytes and its payload.
u64 frame_checksum(std::string_view head6, std::string_view payload, u64 chain) {
  return hash(payload, hash(head6, chain));
}

}  // namespace

std::string make_file_header(u64* chain) {
  std::string h(kFileMagic);
  put_le(h, kLogVersion, 4);
  put_le(h, 0, 4);
  *chain = hash(h, 0);
  put_le(h, *chain, 8);
  return h;
}

Status check_file_header(std::string_view header, const std::string& where, u64* chain) {
  if (header.size() < kFileHeaderSize) {
    return make_error(
        "{}: only {} bytes long; the recorder was killed before it had recorded anything, or the file was "
        "cut",
        where, header.size());
  }
  if (header.substr(0, kFileMagic.size()) != kFileMagic)
    return make_error("{}: byte 0: this is not an event log of DejaVM, or its start is damaged", where);
  const u64 sum = hash(header.substr(0, 16), 0);
  if (sum != get_le(header, 16, 8)) {
    return make_error(
        "{}: bytes 8 to 23: the header's checksum is wrong; the file is damaged, restore it from a copy",
        where);
  }
  const u64 version = get_le(header, 8, 4);
  if (version > kLogVersion) {
    return make_error(
        "{}: written by a newer DejaVM (event log version {}, this program reads up to {}); use the newer "
        "one",
        where, version, kLogVersion);
  }
  if (version == 0 || get_le(header, 12, 4) != 0) return make_error("{}: byte 8: bad header", where);
  *chain = sum;
  return {};
}

std::string make_frame(std::string_view raw, u64 chain, u64* checksum) {
  DEJA_CHECK(!raw.empty() && raw.size() <= kMaxFrameRaw, "a frame of {} bytes", raw.size());
  std::string packed(ZSTD_compressBound(raw.size()), '\0');
  const std::size_t n = ZSTD_compress(packed.data(), packed.size(), raw.data(), raw.size(), kZstdLevel);
  const bool compressed = !ZSTD_isError(n) && n < raw.size();
  const std::string_view payload = compressed ? std::string_view(packed).substr(0, n) : raw;

  std::string frame;
  frame.reserve(kFrameHeaderSize + payload.size());
  frame += static_cast<char>(kFrameMagic);
  put_le(frame, payload.size() | (compressed ? kCompressed : 0), 3);
  put_le(frame, hash(frame, chain), 2);
  *checksum = frame_checksum(frame, payload, chain);
  put_le(frame, *checksum, 8);
  frame += payload;
  return frame;
}

Result<FrameHeader> parse_frame_header(std::string_view bytes, u64 chain) {
  DEJA_CHECK(bytes.size() == kFrameHeaderSize);
  if (get_le(bytes, 4, 2) != (hash(bytes.substr(0, 4), chain) & 0xffff))
    return make_error("the frame header's check is wrong");
  FrameHeader h;
  const u64 size = get_le(bytes, 1, 3);
  h.compressed = size & kCompressed;
  h.payload_size = size & (kCompressed - 1);
  h.checksum = get_le(bytes, 6, 8);
  if (static_cast<u8>(bytes[0]) != kFrameMagic) return make_error("no frame starts here");
  if (h.payload_size == 0 || h.payload_size > kMaxFrameRaw)
    return make_error("a frame of {} bytes, which is not possible", h.payload_size);
  return h;
}

Result<std::string> open_frame(std::string_view frame, const FrameHeader& header, u64 chain) {
  DEJA_CHECK(frame.size() == kFrameHeaderSize + header.payload_size);
  const std::string_view payload = frame.substr(kFrameHeaderSize);
  if (frame_checksum(frame.substr(0, 6), payload, chain) != header.checksum)
    return make_error("the frame's checksum is wrong");
  if (!header.compressed) return std::string(payload);
  const auto size = ZSTD_getFrameContentSize(payload.data(), payload.size());
  if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size == 0 || size > kMaxFrameRaw)
    return make_error("the frame's compressed data has no possible size");
  std::string raw(size, '\0');
  const std::size_t n = ZSTD_decompress(raw.data(), raw.size(), payload.data(), payload.size());
  if (ZSTD_isError(n)) return make_error("the frame's data cannot be unpacked: {}", ZSTD_getErrorName(n));
  if (n != size) return make_error("the frame's data has another size than it says");
  return raw;
}

}  // namespace deja
