#include "disk/disk_image.h"

#include <gmock/gmock.h>
#include <unistd.h>
#include <zlib.h>

#include <filesystem>
#include <fstream>
#include <random>

#include "disk/image_hash.h"

namespace deja {
namespace {

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
    const std::string path = (dir_ / name).string();
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

TEST_F(DiskImageTest, ErrorsNameTheFileAndTheReason) {
  EXPECT_THAT(open_disk_image((dir_ / "nothing").string(), "").error().message,
              HasSubstr("nothing': No such file or directory"));
  EXPECT_THAT(open_disk_image(dir_.string(), "").error().message,
              HasSubstr("neither a file nor a block device"));
  EXPECT_THAT(error(""), HasSubstr("is empty"));
  EXPECT_THAT(error("abc", "vmdk"), HasSubstr("there are raw and qcow2"));
  EXPECT_THAT(error("abcdefgh", "qcow2"), HasSubstr("is not in the format qcow2"));
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
