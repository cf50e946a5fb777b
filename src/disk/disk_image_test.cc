#include "disk/disk_image.h"

#include <gmock/gmock.h>
#include <unistd.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "disk/foreign_format.h"
#include "disk/image_hash.h"
#include "disk/image_process.h"

namespace deja {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class DiskImageTest : public testing::Test {
 protected:
  DiskImageTest() {
    dir_ = std::filesystem::temp_directory_path() / ("deja_disk_test." + std::to_string(::getpid()));
    std::filesystem::create_directories(dir_);
    ::setenv("XDG_CACHE_HOME", (dir_ / "cache").c_str(), 1);
  }
  ~DiskImageTest() override { std::filesystem::remove_all(dir_); }
  std::string file(const std::string& bytes, const std::string& name = "image") {
    std::string path = (dir_ / name).string();
    std::ofstream(path, std::ios::binary) << bytes;
    return path;
  }
  std::string error(const std::string& bytes, std::string_view format = "") {
    auto image = open_disk_image(file(bytes), format);
    return image.ok() ? "" : image.error().message;
  }
  static std::string read(BlockImage& image, u64 offset, u64 size) {
    std::string out(size, '?');
    const Status s = image.read(offset, {reinterpret_cast<u8*>(out.data()), size});
    return s ? out : s.error().message;
  }

  std::filesystem::path dir_;
};

// A qcow2 image of 64 KiB with clusters of 4 KiB: header, L1, one L2 table, then data. Cluster 0 is plain
// "A"s, 1 compressed "B"s, 2 a zero cluster, the others are not there.
class Qcow2Builder {
 public:
  explicit Qcow2Builder(u32 version = 3) {
    bytes.resize(0x4000);
    bytes.replace(0, 4, "QFI\xfb");
    put32(4, version);
    put32(20, 12);
    put64(24, 0x10000);
    put32(36, 1);
    put64(40, 0x1000);
    put32(100, 104);
    put64(0x1000, 0x2000 | u64{1} << 63);
    entry(0, 0x3000 | u64{1} << 63);
    std::fill(bytes.begin() + 0x3000, bytes.begin() + 0x4000, 'A');
    const std::string plain(4096, 'B');
    std::string packed(4096, '\0');
    z_stream z{};
    deflateInit2(&z, 9, Z_DEFLATED, -12, 8, Z_DEFAULT_STRATEGY);
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(plain.data()));
    z.avail_in = 4096;
    z.next_out = reinterpret_cast<Bytef*>(packed.data());
    z.avail_out = 4096;
    deflate(&z, Z_FINISH);
    packed.resize(z.total_out);
    deflateEnd(&z);
    entry(1, u64{1} << 62 | bytes.size());  // no further sectors
    bytes += packed;
    if (version == 3) entry(2, 1);
  }
  void put32(std::size_t at, u32 x) { put(at, x, 4); }
  void put64(std::size_t at, u64 x) { put(at, x, 8); }
  void entry(std::size_t cluster, u64 x) { put64(0x2000 + 8 * cluster, x); }
  std::string bytes;

 private:
  void put(std::size_t at, u64 x, unsigned size) {
    for (unsigned i = 0; i < size; ++i) bytes[at + i] = static_cast<char>(x >> (8 * (size - 1 - i)));
  }
};

TEST_F(DiskImageTest, RawIsItselfWithZerosBehind) {
  auto image = open_disk_image(file("hello"), "").value();
  EXPECT_EQ(image.format, "raw");
  EXPECT_EQ(image.content->size(), 5u);
  EXPECT_EQ(read(*image.content, 1, 6), std::string("ello\0\0", 6));
  EXPECT_EQ(read(*image.content, 100, 2), std::string(2, '\0'));
}

TEST_F(DiskImageTest, Qcow2ClustersOfEveryKind) {
  for (const u32 version : {2, 3}) {
    auto image = open_disk_image(file(Qcow2Builder(version).bytes), "").value();
    EXPECT_EQ(image.format, "qcow2");
    EXPECT_EQ(image.content->size(), 0x10000u);
    EXPECT_EQ(read(*image.content, 4094, 4), "AABB");
    EXPECT_EQ(read(*image.content, 8190, 4), std::string("BB\0\0", 4));
    EXPECT_EQ(read(*image.content, 0xfffe, 4), std::string(4, '\0'));
  }
}

TEST(ForeignFormat, ItsRemedyCanBeCopiedIntoAShell) {
  const auto of = [](const std::string& path) { return remedy(*foreign_format_named("vhdx"), path); };
  const auto command = [](const std::string& word) {
    return "`qemu-img convert -f vhdx -O qcow2 " + word + " NEW.qcow2` makes one that is";
  };
  EXPECT_EQ(of("/a/b.vhdx"), command("/a/b.vhdx"));
  EXPECT_EQ(of("my disk.vhdx"), command("'my disk.vhdx'"));
  EXPECT_EQ(of("-x.vhdx"), command("./-x.vhdx"));
  EXPECT_EQ(of("nbd:x.vhdx"), command("./nbd:x.vhdx"));
  EXPECT_EQ(of("a/b:c.vhdx"), command("a/b:c.vhdx"));
}

TEST_F(DiskImageTest, ErrorsNameTheFileAndTheReason) {
  EXPECT_THAT(open_disk_image((dir_ / "nothing").string(), "").error().message,
              HasSubstr("nothing': No such file or directory"));
  EXPECT_THAT(open_disk_image(dir_.string(), "").error().message,
              HasSubstr("neither a file nor a block device"));
  EXPECT_THAT(error(""), HasSubstr("is empty"));
  EXPECT_THAT(error("abc", "vhd"), HasSubstr("there are raw, qcow2, vmdk and vdi"));
  EXPECT_THAT(error("abc", "vhdx"),
              HasSubstr("the format vhdx is not supported; `qemu-img convert -f vhdx -O "));
  for (const std::string format : {"qcow2", "vmdk", "vdi"})
    EXPECT_THAT(error("abcdefgh", format), HasSubstr("is not in the format " + format));
  Qcow2Builder backing;
  backing.put64(8, 0x100);
  EXPECT_THAT(error(backing.bytes), HasSubstr("a backing file is not supported; `qemu-img convert"));
  Qcow2Builder encrypted;
  encrypted.put32(32, 2);
  EXPECT_THAT(error(encrypted.bytes), HasSubstr("encryption"));
  Qcow2Builder newer;
  newer.put64(72, 1 << 10);
  EXPECT_THAT(error(newer.bytes), HasSubstr("newer than this program"));
}

TEST_F(DiskImageTest, ADamagedQcow2IsRefusedOrReadsWithAnError) {
  Qcow2Builder builder;
  builder.entry(0, 0x7777777000 | u64{1} << 63);
  auto image = open_disk_image(file(builder.bytes), "").value();
  EXPECT_THAT(read(*image.content, 0, 4), HasSubstr("damaged"));
  Qcow2Builder garbled;
  for (std::size_t i = 0x4000; i < garbled.bytes.size(); ++i) garbled.bytes[i] = static_cast<char>(0xff);
  image = open_disk_image(file(garbled.bytes), "").value();
  EXPECT_THAT(read(*image.content, 4096, 4), HasSubstr("does not unpack"));
  std::mt19937_64 random(1);
  const Qcow2Builder good;
  for (unsigned round = 0; round < 3000; ++round) {
    std::string bytes = good.bytes;
    for (unsigned i = 0; i < 3; ++i)
      bytes[random() % (random() % 2 ? 112 : bytes.size())] = static_cast<char>(random());
    if (random() % 4 == 0) bytes.resize(random() % bytes.size());
    auto hostile = open_disk_image(file(bytes), "");
    if (!hostile) continue;
    for (unsigned i = 0; i < 4; ++i) (void)read(*hostile->content, random() % 0x12000, 5000);
  }
}

// Images made by the reference, qemu-img; without it there is nothing to compare with.
class ForeignImageTest : public DiskImageTest {
 protected:
  static constexpr u64 kSize = 35_MiB + 3 * 512;  // ends in the middle of a grain and of a block

  void SetUp() override {
    if (std::system("command -v qemu-img >/dev/null") != 0) GTEST_SKIP() << "qemu-img is not installed";
    // Noise, text and holes, of all lengths. Beyond 32 MiB a VMDK has a second table.
    std::mt19937_64 random(7);
    content_.assign(kSize, '\0');
    for (u64 at = 0; at < kSize;) {
      const u64 length = std::min<u64>(random() % (random() % 2 ? 5'000 : 2'000'000), kSize - at);
      const u64 kind = random() % 3;
      for (u64 i = at; kind != 0 && i < at + length; ++i)
        content_[i] = kind == 1 ? static_cast<char>(random()) : static_cast<char>('a' + i % 7);
      at += length;
    }
    content_.replace(kSize - 100, 100, std::string(100, 'z'));
    (void)file(content_, "disk.raw");
  }
  std::string converted(const std::string& name, const std::string& options) {
    std::string out = (dir_ / name).string();
    const std::string command =
        "qemu-img convert -f raw " + options + " " + (dir_ / "disk.raw").string() + " " + out;
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
    return out;
  }
  void expect_content(const std::string& path, const std::string& format) {
    auto image = open_disk_image(path, "");
    ASSERT_TRUE(image.ok()) << image.error().message;
    EXPECT_EQ(image->format, format);
    BlockImage& disk = *image->content;
    ASSERT_EQ(disk.size(), kSize);
    ASSERT_TRUE(read(disk, 0, kSize) == content_) << path;
    std::mt19937_64 random(8);
    for (unsigned i = 0; i < 300; ++i) {
      const u64 at = random() % kSize, size = random() % 200'000;
      std::string want = content_.substr(at, size);
      want.resize(size);
      ASSERT_TRUE(read(disk, at, size) == want) << path << ": " << size << " bytes at " << at;
    }
    // And as the sandbox has it read.
    auto remote = RemoteImage::open(HostFile::open(path).value(), format);
    ASSERT_TRUE(remote.ok()) << remote.error().message;
    ASSERT_TRUE(read(**remote, 0, kSize) == content_) << path;
  }
  static std::string text_of(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }

  // As VMware writes a stream: where the directory is, is said in a copy of the header at the end.
  static std::string with_footer(std::string packed) {
    packed += std::string(512, '\0') + packed.substr(0, 512) + std::string(512, '\0');
    return packed.replace(56, 8, 8, '\xff');
  }

  std::string content_;
};

TEST_F(ForeignImageTest, ReadLikeTheDiskThatTheyWereMadeOf) {
  expect_content(converted("plain.vmdk", "-O vmdk"), "vmdk");
  expect_content(converted("zeros.vmdk", "-O vmdk -o zeroed_grain=on -S 0"), "vmdk");
  const std::string packed = converted("packed.vmdk", "-O vmdk -o subformat=streamOptimized");
  expect_content(packed, "vmdk");
  expect_content(file(with_footer(text_of(packed)), "ova.vmdk"), "vmdk");
  expect_content(converted("growing.vdi", "-O vdi"), "vdi");
  expect_content(converted("fixed.vdi", "-O vdi -o static=on"), "vdi");
  expect_content(converted("plain.qcow2", "-O qcow2"), "qcow2");
  expect_content(converted("packed.qcow2", "-O qcow2 -c -o compression_type=zstd"), "qcow2");
}

TEST_F(ForeignImageTest, ADiskInOtherFilesIsRefusedWithWhatToDo) {
  const auto error_of = [](const std::string& path) {
    auto image = open_disk_image(path, "");
    return image.ok() ? "" : image.error().message;
  };
  EXPECT_THAT(error_of(converted("flat.vmdk", "-O vmdk -o subformat=monolithicFlat")),
              HasSubstr("in the file 'flat-flat.vmdk': use that one, with format=raw"));
  EXPECT_EQ(open_disk_image((dir_ / "flat-flat.vmdk").string(), "raw").value().content->size(), kSize);
  EXPECT_THAT(
      error_of(converted("split.vmdk", "-O vmdk -o subformat=twoGbMaxExtentSparse")),
      HasSubstr("a disk in other files (createType 'twoGbMaxExtentSparse') is not supported; `qemu-img"));
  EXPECT_THAT(error_of((dir_ / "split-s001.vmdk").string()), HasSubstr("one of the several files"));

  const std::string base = converted("base.vmdk", "-O vmdk"), snapshot = (dir_ / "snapshot.vmdk").string();
  ASSERT_EQ(std::system(("qemu-img create -q -f vmdk -F vmdk -b " + base + " " + snapshot).c_str()), 0);
  EXPECT_THAT(error_of(snapshot), HasSubstr("a snapshot (a difference to another image)"));
  std::string vdi = text_of(converted("base.vdi", "-O vdi"));
  vdi[0x4c] = 4;  // what VirtualBox calls a differencing image
  EXPECT_THAT(error(vdi), HasSubstr("a snapshot (a difference to another image)"));
}

TEST_F(ForeignImageTest, FormatsThatAreNotReadAreRefusedByName) {
  struct Case {
    std::string options, name, remedy;
  };
  const std::vector<Case> cases{
      {"-O vhdx", "VHDX", "qemu-img convert -f vhdx -O qcow2"},
      {"-O vpc", "VHD", "qemu-img convert -f vpc -O qcow2"},
      {"-O vpc -o subformat=fixed,force_size=on", "VHD", "qemu-img convert -f vpc -O qcow2"},
      {"-O qed", "QED", "qemu-img convert -f qed -O qcow2"},
      {"-O qcow", "QCOW (version 1)", "qemu-img convert -f qcow -O qcow2"},
      {"-O parallels", "Parallels", "qemu-img convert -f parallels -O qcow2"},
      {"--object secret,id=s,data=x -O luks -o key-secret=s,iter-time=10", "LUKS", "driver=luks"}};
  for (const Case& c : cases) {
    const std::string path = converted("foreign", c.options);
    const auto image = open_disk_image(path, "");
    ASSERT_FALSE(image.ok()) << c.options;
    EXPECT_THAT(image.error().message,
                AllOf(HasSubstr("'" + path + "': looks like " + c.name), HasSubstr(c.remedy),
                      HasSubstr("--drive file=" + path + ",format=raw")));
    EXPECT_THAT(open_disk_image(path, "qcow2").error().message,
                HasSubstr("is not in the format qcow2: it looks like " + c.name));
    // Whoever says so gets the container's bytes.
    auto raw = open_disk_image(path, "raw").value();
    EXPECT_TRUE(read(*raw.content, 0, 4096) == text_of(path).substr(0, 4096));
  }
}

TEST_F(DiskImageTest, EverySignIsSeenAtItsPlace) {
  const std::string sector(512, '\0');
  const std::map<std::string, std::string> files{
      {"vhdxfile" + sector, "VHDX"},
      {"conectix" + sector, "VHD"},
      {sector + "conectix" + std::string(504, '\0'), "VHD"},
      {sector + "conectix" + std::string(503, '\0'), "VHD"},
      {std::string("QED\0", 4) + sector, "QED"},
      {std::string("QFI\xfb\0\0\0\1", 8) + sector, "QCOW (version 1)"},
      {"WithoutFreeSpace" + sector, "Parallels"},
      {"WithouFreSpacExt" + sector, "Parallels"},
      {"Bochs Virtual HD Image" + sector, "Bochs"},
      {"#!/bin/sh\n#V2.0 Format\n" + sector, "cloop"},
      {sector + "koly" + std::string(508, '\0'), "dmg"},
      {"LUKS\xba\xbe" + sector, "LUKS"},
      {"\x1f\x8b\x08" + sector, "gzip"},
      {std::string("\xfd"
                   "7zXZ\0",
                   6) +
           sector,
       "xz"},
      {"\x28\xb5\x2f\xfd" + sector, "zstd"},
      {"\x04\x22\x4d\x18" + sector, "LZ4"},
      {"BZh91AY&SY" + sector, "bzip2"},
      {"BZh1\x17rE8P\x90" + sector, "bzip2"},
      {"PK\3\4" + sector, "zip"},
      {"7z\xbc\xaf\x27\x1c" + sector, "7-Zip"},
      {std::string(257, 'n') + "ustar" + sector, "tar"},
      {"\x3a\xff\x26\xed" + sector, "Android"},
      {std::string("EVF\x09\x0d\x0a\xff\0", 8) + sector, "EWF"}};
  for (const auto& [bytes, name] : files) {
    EXPECT_THAT(error(bytes), HasSubstr("looks like " + name));
    EXPECT_EQ(error(bytes, "raw"), "") << name;
    // Elsewhere it says nothing.
    EXPECT_EQ(error("x" + bytes + "xx"), "") << name;
  }
}

TEST_F(DiskImageTest, WhatAGuestWroteToARawDiskChoosesNoFormat) {
  const std::string qcow2 = Qcow2Builder().bytes, vhd = "conectix" + std::string(5000, 'x');
  EXPECT_THAT(
      open_disk_image(file(qcow2, "export.raw"), "").error().message,
      AllOf(HasSubstr("is called raw and looks like qcow2"), HasSubstr("format=raw or format=qcow2")));
  EXPECT_EQ(open_disk_image(file(qcow2, "export.raw"), "raw")->content->size(), qcow2.size());
  EXPECT_EQ(open_disk_image(file(qcow2, "export.raw"), "qcow2")->content->size(), 0x10000u);
  // So an export is called so that it is not taken for another.
  const auto exported = [&](const std::string& disk, const std::string& name) {
    const Status status = check_raw_name(
        [&](u64 at, std::span<u8> out) {
          std::copy_n(disk.begin() + static_cast<std::ptrdiff_t>(at), out.size(), out.begin());
          return Status();
        },
        disk.size(), name);
    return status ? "" : status.error().message;
  };
  EXPECT_EQ(exported("an honest disk", "disk.img"), "");
  EXPECT_THAT(exported(qcow2, "disk.img"), HasSubstr("disk.img: a raw copy of this disk looks like qcow2"));
  EXPECT_THAT(exported(vhd, "disk.img"), HasSubstr("looks like VHD"));
  EXPECT_THAT(exported(std::string(vhd.rbegin(), vhd.rend()), "disk.img"), "");
  for (const std::string& disk : {qcow2, vhd}) {
    EXPECT_EQ(exported(disk, "disk.raw"), "");
    EXPECT_FALSE(open_disk_image(file(disk, "disk.raw"), "").ok());
  }
}

TEST_F(ForeignImageTest, DamageIsAnErrorThatNamesIt) {
  const std::string packed = text_of(converted("packed.vmdk", "-O vmdk -o subformat=streamOptimized"));
  const std::string streamed = with_footer(packed);
  EXPECT_THAT(error(streamed.substr(0, streamed.size() - 512)), HasSubstr("its footer is missing"));
  std::string text_mode = text_of(converted("plain.vmdk", "-O vmdk"));
  text_mode[75] = '\n';
  EXPECT_THAT(error(text_mode), HasSubstr("its line ends were changed"));
  const std::string vdi = text_of(converted("growing.vdi", "-O vdi"));
  auto cut = open_disk_image(file(vdi.substr(0, 5_MiB)), "").value();
  EXPECT_THAT(read(*cut.content, 30_MiB, 1), HasSubstr("the VDI image is damaged: block"));
}

TEST_F(DiskImageTest, HashIsRememberedUntilTheFileChanges) {
  const std::string path = file("abc");
  const auto hash = [&] { return image_sha256(HostFile::open(path).value()).value(); };
  EXPECT_EQ(hash(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string identity = HostFile::open(path).value().identity().value();
  EXPECT_EQ(cached_image_sha256(identity), hash());
  (void)file("abd");
  EXPECT_NE(HostFile::open(path).value().identity().value(), identity);
  EXPECT_NE(hash(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  BackgroundHash background(path);
  background.begin();
  EXPECT_EQ(background.take().value(), hash());
}

}  // namespace
}  // namespace deja
