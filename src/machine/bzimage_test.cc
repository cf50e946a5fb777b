#include "machine/bzimage.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "machine/images_for_test.h"

namespace deja {
namespace {

using test::Bytes;
using test::poke;
using testing::HasSubstr;

Bytes good() { return test::make_bzimage(test::make_lz4_payload(test::make_vmlinux())); }

std::string parse_error(const Bytes& file) {
  auto image = parse_bzimage(file);
  if (!image) return image.error().message;
  auto vmlinux = extract_vmlinux(*image);
  return vmlinux ? "" : vmlinux.error().message;
}

TEST(BzImage, HeaderAndPayload) {
  const Bytes file = good();
  auto image = parse_bzimage(file);
  ASSERT_TRUE(image.ok()) << image.error().message;
  EXPECT_EQ(image->version, 0x20f);
  EXPECT_EQ(image->header.size(), 0x26cu - 0x1f1u);
  EXPECT_EQ(image->protected_mode.data(), file.data() + 1024);
  EXPECT_EQ(image->preferred_address, 16_MiB);
  EXPECT_EQ(image->init_size, 1_MiB);
  EXPECT_EQ(image->cmdline_size, 2047u);
  auto vmlinux = extract_vmlinux(*image);
  ASSERT_TRUE(vmlinux.ok()) << vmlinux.error().message;
  EXPECT_TRUE(*vmlinux == test::make_vmlinux());
}

TEST(BzImage, PlainPayload) { EXPECT_EQ(parse_error(test::make_bzimage(test::make_vmlinux())), ""); }

TEST(BzImage, ZeroSetupSectorsMeansFour) {
  Bytes file = good();
  file.insert(file.begin() + 1024, 3 * 512, 0);
  poke<u8>(file, 0x1f1, 0);
  EXPECT_EQ(parse_error(file), "");
}

TEST(BzImage, Messages) {
  Bytes file = good();
  EXPECT_THAT(parse_error(Bytes(file.begin(), file.end() - 100)), HasSubstr("truncated"));
  poke<u16>(file, 0x206, 0x204);
  EXPECT_THAT(parse_error(file), HasSubstr("2.04 is too old"));
  file = good();
  poke<u16>(file, 0x236, 0);
  EXPECT_THAT(parse_error(file), HasSubstr("32-bit kernel"));
  file = good();
  poke<u32>(file, 0x248, 0x7fffffff);
  EXPECT_THAT(parse_error(file), HasSubstr("lies outside"));
  file = good();
  file[1024 + 0x400] ^= 0xff;
  EXPECT_THAT(parse_error(file), HasSubstr("no known compression (it starts with fd 21"));
  EXPECT_THAT(parse_error(test::make_bzimage(test::make_lz4_payload(Bytes(100, 'x')))),
              HasSubstr("no ELF file"));
}

TEST(BzImage, EveryHeaderByteMayBeAnything) {
  const Bytes file = good();
  for (u64 i = 0x1f0; i < 0x270; ++i)
    for (unsigned v = 0; v < 256; ++v) {
      Bytes bad = file;
      bad[i] = static_cast<u8>(v);
      (void)parse_error(bad);
    }
}

TEST(BzImage, EveryTruncationIsAnError) {
  const Bytes file = good();
  const u64 padding = file.size() - 1024 - 0x400 - test::make_lz4_payload(test::make_vmlinux()).size();
  for (u64 n = 0; n < file.size() - padding; ++n)
    EXPECT_NE(parse_error(Bytes(file.begin(), file.begin() + n)), "") << n;
}

// As memtest86+ 6.10 of Debian 12 is: syssize counts paragraphs, and the file ends within the last one.
TEST(BzImage, TheLastParagraphNeedNotBeWhole) {
  for (u64 missing = 0; missing <= 16; ++missing) {
    Bytes file = test::make_bzimage({});
    poke<u32>(file, 0x248, 0), poke<u32>(file, 0x24c, 0);  // nothing is packed in it
    file.insert(file.end(), 16, 0x90);
    poke<u32>(file, 0x1f4, static_cast<u32>((file.size() - 1024) / 16));
    const u64 whole = file.size() - 1024;
    file.resize(file.size() - missing);
    auto image = parse_bzimage(file);
    if (missing == 16) {
      EXPECT_THAT(image.error().message,
                  HasSubstr(fmt::format("promises {} bytes, the file has {}", whole + 1024, file.size())));
      continue;
    }
    ASSERT_TRUE(image) << missing << ": " << image.error().message;
    EXPECT_EQ(image->protected_mode.size(), whole - missing);
    EXPECT_EQ(image->protected_mode.data() + image->protected_mode.size(), file.data() + file.size());
  }
}

}  // namespace
}  // namespace deja
