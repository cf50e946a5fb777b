#include "machine/decompress.h"

#include <bzlib.h>
#include <lz4.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cstring>

namespace deja {
namespace {

using Bytes = std::vector<u8>;

struct Magic {
  Compression compression;
  std::string_view bytes;
};
// As in Linux lib/decompress.c; LZ4 is the legacy frame (0x184C2102), LZMA the .lzma header with lc=3 lp=0
// pb=2.
constexpr Magic kMagics[] = {
    {Compression::gzip, {"\x1f\x8b", 2}},
    {Compression::bzip2, {"BZh", 3}},
    {Compression::lzma, {"\x5d\0\0", 3}},
    {Compression::xz,
     {"\xfd"
      "7zXZ\0",
      6}},
    {Compression::lzo, {"\x89LZO\0\r\n\x1a\n", 9}},
    {Compression::lz4, {"\x02\x21\x4c\x18", 4}},
    {Compression::zstd, {"\x28\xb5\x2f\xfd", 4}},
};

// The growing output of a streaming decoder.
class Output {
 public:
  explicit Output(u64 limit) : limit_(limit) {}

  // Makes room; false when the limit is reached.
  bool grow() {
    if (used_ < bytes_.size()) return true;
    if (used_ >= limit_) return false;
    bytes_.resize(std::min<u64>(limit_, std::max<u64>(1_MiB, used_ * 2)));
    return true;
  }
  u8* next() { return bytes_.data() + used_; }
  // Fits any decoder's counter type.
  unsigned room() const { return static_cast<unsigned>(std::min<u64>(bytes_.size() - used_, 1u << 30)); }
  void produced(u64 n) { used_ += n; }
  Bytes take() {
    bytes_.resize(used_);
    return std::move(bytes_);
  }
  Error too_large() const { return make_error("unpacks to more than {} MiB", limit_ >> 20); }

 private:
  Bytes bytes_;
  u64 used_ = 0;
  u64 limit_;
};

Error damaged(std::string_view format, u64 position) {
  return make_error("{} data damaged at byte {:#x} of the stream", format, position);
}
Error cut_short(std::string_view format, u64 size) {
  return make_error("{} data ends too early, after {} bytes", format, size);
}

Result<Bytes> gunzip(std::span<const u8> in, u64 limit) {
  z_stream z = {};
  if (inflateInit2(&z, 15 + 16) != Z_OK) return make_error("out of memory");
  Output out(limit);
  z.next_in = const_cast<u8*>(in.data());
  z.avail_in = static_cast<unsigned>(in.size());
  int rc = Z_OK;
  bool full = false;
  while (rc == Z_OK) {
    if ((full = !out.grow())) break;
    z.next_out = out.next();
    const unsigned room = z.avail_out = out.room();
    rc = inflate(&z, Z_NO_FLUSH);
    out.produced(room - z.avail_out);
  }
  const u64 position = in.size() - z.avail_in;
  inflateEnd(&z);
  if (full) return out.too_large();
  if (rc == Z_BUF_ERROR) return cut_short("gzip", in.size());
  if (rc != Z_STREAM_END) return damaged("gzip", position);
  return out.take();
}

Result<Bytes> bunzip2(std::span<const u8> in, u64 limit) {
  bz_stream z = {};
  if (BZ2_bzDecompressInit(&z, 0, 0) != BZ_OK) return make_error("out of memory");
  Output out(limit);
  z.next_in = const_cast<char*>(reinterpret_cast<const char*>(in.data()));
  z.avail_in = static_cast<unsigned>(in.size());
  int rc = BZ_OK;
  bool full = false, starved = false;
  while (rc == BZ_OK && !starved) {
    if ((full = !out.grow())) break;
    z.next_out = reinterpret_cast<char*>(out.next());
    const unsigned room = z.avail_out = out.room();
    rc = BZ2_bzDecompress(&z);
    out.produced(room - z.avail_out);
    starved = rc == BZ_OK && z.avail_in == 0 && z.avail_out == room;
  }
  const u64 position = in.size() - z.avail_in;
  BZ2_bzDecompressEnd(&z);
  if (full) return out.too_large();
  if (starved) return cut_short("bzip2", in.size());
  if (rc != BZ_STREAM_END) return damaged("bzip2", position);
  return out.take();
}

Result<Bytes> unlzma(std::string_view format, bool xz, std::span<const u8> in, u64 limit) {
  // Memory for the dictionary: the kernel's build uses 32 MiB, xz's largest preset 64 MiB.
  constexpr u64 kMemoryLimit = 512_MiB;
  lzma_stream z = LZMA_STREAM_INIT;
  const lzma_ret init = xz ? lzma_stream_decoder(&z, kMemoryLimit, 0) : lzma_alone_decoder(&z, kMemoryLimit);
  if (init != LZMA_OK) return make_error("out of memory");
  Output out(limit);
  z.next_in = in.data();
  z.avail_in = in.size();
  lzma_ret rc = LZMA_OK;
  bool full = false;
  while (rc == LZMA_OK) {
    if ((full = !out.grow())) break;
    z.next_out = out.next();
    const u64 room = z.avail_out = out.room();
    rc = lzma_code(&z, LZMA_RUN);
    out.produced(room - z.avail_out);
  }
  const u64 position = in.size() - z.avail_in;
  lzma_end(&z);
  if (full) return out.too_large();
  if (rc == LZMA_BUF_ERROR) return cut_short(format, in.size());
  if (rc == LZMA_MEMLIMIT_ERROR)
    return make_error("{} data wants more than {} MiB to unpack", format, kMemoryLimit >> 20);
  if (rc != LZMA_STREAM_END) return damaged(format, position);
  return out.take();
}

// The legacy frame: magic, then blocks of a 32-bit length and that many bytes, each of which unpacks to at
// most 8 MiB. It has no end mark: the data ends it, and in a kernel the unpacked size follows
// (lib/decompress_unlz4.c).
Result<Bytes> unlz4(std::span<const u8> in, u64 limit) {
  constexpr u64 kBlock = 8_MiB;
  Bytes out;
  // Only a hint, and no more than there can be. The last block needs room for a whole one.
  u32 appended;
  std::memcpy(&appended, in.data() + in.size() - 4, 4);
  out.reserve(std::min({limit, u64{appended}, u64{in.size()} * 255}) + kBlock);
  u64 position = 4;
  while (in.size() - position >= 4) {
    u32 size;
    std::memcpy(&size, in.data() + position, 4);
    const u64 left = in.size() - position - 4;
    if (left == 0 && size == static_cast<u32>(out.size())) break;  // the appended size, not a block
    if (size > left) return cut_short("LZ4", in.size());
    if (size == 0 || size > static_cast<u32>(LZ4_COMPRESSBOUND(kBlock))) return damaged("LZ4", position);
    const u64 used = out.size();
    // LZ4 packs at most 255 to 1.
    const u64 room = std::min(kBlock, u64{size} * 255);
    out.resize(used + room);
    const int n = LZ4_decompress_safe(reinterpret_cast<const char*>(in.data() + position + 4),
                                      reinterpret_cast<char*>(out.data() + used), static_cast<int>(size),
                                      static_cast<int>(room));
    if (n < 0) return damaged("LZ4", position);
    if (used + static_cast<u64>(n) > limit) return make_error("unpacks to more than {} MiB", limit >> 20);
    out.resize(used + static_cast<u64>(n));
    position += 4 + u64{size};
  }
  if (out.empty()) return cut_short("LZ4", in.size());
  return out;
}

Result<Bytes> unzstd(std::span<const u8> in, u64 limit) {
  ZSTD_DStream* z = ZSTD_createDStream();
  if (!z) return make_error("out of memory");
  Output out(limit);
  ZSTD_inBuffer input{in.data(), in.size(), 0};
  std::size_t rc = 1;
  bool full = false, starved = false;
  while (rc != 0 && !ZSTD_isError(rc) && !starved) {
    if ((full = !out.grow())) break;
    ZSTD_outBuffer output{out.next(), out.room(), 0};
    rc = ZSTD_decompressStream(z, &output, &input);
    out.produced(output.pos);
    starved = rc != 0 && input.pos == input.size && output.pos < output.size;
  }
  ZSTD_freeDStream(z);
  if (full) return out.too_large();
  if (ZSTD_isError(rc)) return damaged("zstd", input.pos);
  if (starved) return cut_short("zstd", in.size());
  return out.take();
}

}  // namespace

std::optional<Compression> detect_compression(std::span<const u8> data) {
  for (const Magic& m : kMagics)
    if (data.size() >= m.bytes.size() && std::memcmp(data.data(), m.bytes.data(), m.bytes.size()) == 0)
      return m.compression;
  return std::nullopt;
}

std::string_view compression_name(Compression c) {
  constexpr std::string_view kNames[] = {"gzip", "bzip2", "LZMA", "XZ", "LZO", "LZ4", "zstd"};
  return kNames[static_cast<unsigned>(c)];
}

Result<std::vector<u8>> decompress(Compression c, std::span<const u8> in, u64 limit) {
  // Some decoders count in 32 bits; no kernel comes near.
  if (in.size() > 1_GiB) return make_error("compressed data of more than 1 GiB");
  switch (c) {
    case Compression::gzip:
      return gunzip(in, limit);
    case Compression::bzip2:
      return bunzip2(in, limit);
    case Compression::lzma:
      return unlzma("LZMA", false, in, limit);
    case Compression::xz:
      return unlzma("XZ", true, in, limit);
    case Compression::lz4:
      return unlz4(in, limit);
    case Compression::zstd:
      return unzstd(in, limit);
    case Compression::lzo:
      break;
  }
  return make_error("{} is a compression that DejaVM cannot unpack", compression_name(c));
}

}  // namespace deja
