#include "machine/decompress.h"

#include <bzlib.h>
#include <gtest/gtest.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>

#include "machine/images_for_test.h"

namespace deja {
namespace {

using test::Bytes;

Bytes sample(u64 size) {
  Bytes out(size);
  u32 x = 12345;
  for (u64 i = 0; i < size; ++i) {
    x = x * 1664525 + 1013904223;
    out[i] = static_cast<u8>((x >> 28) + (i >> 8));
  }
  return out;
}

// With the unpacked size appended, as Linux does for all formats but gzip, which ends with it anyway.
Bytes compress(Compression c, const Bytes& plain) {
  Bytes out(plain.size() + plain.size() / 8 + 4096);
  switch (c) {
    case Compression::gzip: {
      z_stream z = {};
      deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
      z.next_in = const_cast<u8*>(plain.data());
      z.avail_in = static_cast<unsigned>(plain.size());
      z.next_out = out.data();
      z.avail_out = static_cast<unsigned>(out.size());
      EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
      out.resize(z.total_out);
      deflateEnd(&z);
      return out;
    }
    case Compression::bzip2: {
      unsigned n = static_cast<unsigned>(out.size());
      EXPECT_EQ(BZ2_bzBuffToBuffCompress(reinterpret_cast<char*>(out.data()), &n,
                                         const_cast<char*>(reinterpret_cast<const char*>(plain.data())),
                                         static_cast<unsigned>(plain.size()), 9, 0, 0),
                BZ_OK);
      out.resize(n);
      break;
    }
    case Compression::xz: {
      std::size_t n = 0;
      EXPECT_EQ(lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, nullptr, plain.data(), plain.size(), out.data(),
                                        &n, out.size()),
                LZMA_OK);
      out.resize(n);
      break;
    }
    case Compression::lzma: {
      lzma_options_lzma options;
      lzma_lzma_preset(&options, 0);
      lzma_stream z = LZMA_STREAM_INIT;
      EXPECT_EQ(lzma_alone_encoder(&z, &options), LZMA_OK);
      z.next_in = plain.data();
      z.avail_in = plain.size();
      z.next_out = out.data();
      z.avail_out = out.size();
      EXPECT_EQ(lzma_code(&z, LZMA_FINISH), LZMA_STREAM_END);
      out.resize(z.total_out);
      lzma_end(&z);
      break;
    }
    case Compression::zstd: {
      const std::size_t n = ZSTD_compress(out.data(), out.size(), plain.data(), plain.size(), 3);
      EXPECT_FALSE(ZSTD_isError(n));
      out.resize(n);
      break;
    }
    case Compression::lz4:
      return test::make_lz4_payload(plain);
    case Compression::lzo:
      break;
  }
  append(out, static_cast<u32>(plain.size()));
  return out;
}

class Decompress : public testing::TestWithParam<Compression> {};

TEST_P(Decompress, RoundTripWithAppendedSize) {
  // LZ4's block is 8 MiB: the second size needs two of them.
  for (const u64 size : {u64{1000}, 9_MiB}) {
    const Bytes plain = sample(size);
    const Bytes packed = compress(GetParam(), plain);
    EXPECT_EQ(detect_compression(packed), GetParam());
    auto unpacked = decompress(GetParam(), packed, 64_MiB);
    ASSERT_TRUE(unpacked.ok()) << unpacked.error().message;
    EXPECT_TRUE(*unpacked == plain);
  }
}

TEST_P(Decompress, RefusesMoreThanTheLimit) {
  const Bytes packed = compress(GetParam(), sample(3_MiB));
  const auto unpacked = decompress(GetParam(), packed, 2_MiB);
  ASSERT_FALSE(unpacked.ok());
  EXPECT_EQ(unpacked.error().message, "unpacks to more than 2 MiB");
}

TEST_P(Decompress, EveryTruncationIsAnError) {
  const Bytes packed = compress(GetParam(), sample(3000));
  const u64 appended = GetParam() == Compression::gzip ? 0 : 4;
  for (u64 n = 0; n < packed.size() - appended; ++n)
    EXPECT_FALSE(decompress(GetParam(), {packed.data(), n}, 1_MiB).ok()) << n;
}

TEST_P(Decompress, FlippedBytesNeverCrash) {
  const Bytes packed = compress(GetParam(), sample(2000));
  for (u64 i = 0; i < packed.size(); ++i)
    for (const u8 flip : {0x01, 0x80, 0xff}) {
      Bytes bad = packed;
      bad[i] ^= flip;
      (void)decompress(GetParam(), bad, 1_MiB);
    }
}

INSTANTIATE_TEST_SUITE_P(Formats, Decompress,
                         testing::Values(Compression::gzip, Compression::bzip2, Compression::lzma,
                                         Compression::xz, Compression::lz4, Compression::zstd),
                         [](const auto& info) { return std::string(compression_name(info.param)); });

TEST(DecompressUnsupported, Lzo) {
  const Bytes packed{0x89, 'L', 'Z', 'O', 0, 0x0d, 0x0a, 0x1a, 0x0a};
  ASSERT_EQ(detect_compression(packed), Compression::lzo);
  EXPECT_FALSE(decompress(Compression::lzo, packed, 1_MiB).ok());
}

}  // namespace
}  // namespace deja
