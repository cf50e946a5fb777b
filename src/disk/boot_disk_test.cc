#include "disk/boot_disk.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <random>

#include "disk/disk_image.h"
#include "disk/ext4_reader.h"

namespace deja {
namespace {

using testing::HasSubstr;

// File systems are made by mke2fs, the reference; without it there is nothing to compare with.
class BootDiskTest : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("command -v mke2fs >/dev/null") != 0) GTEST_SKIP() << "mke2fs is not installed";
    dir_ = std::filesystem::temp_directory_path() / ("deja_boot_disk_test." + std::to_string(::getpid()));
    std::filesystem::create_directories(dir_ / "tree/boot");
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  void put(const std::string& path, const std::string& bytes) {
    std::ofstream(dir_ / "tree" / path, std::ios::binary) << bytes;
  }
  void link(const std::string& path, const std::string& target) {
    std::filesystem::create_symlink(target, dir_ / "tree" / path);
  }
  // A disk of 24 MiB with the tree in a file system at `start`.
  std::string disk(const std::string& options, u64 start = 0, const std::string& name = "disk",
                   u64 sector_size = 512) {
    const std::string fs = (dir_ / "fs").string(), out = (dir_ / name).string();
    std::filesystem::remove(fs);
    const std::string command =
        "mke2fs -q -F " + options + " -d " + (dir_ / "tree").string() + " " + fs + " 20M";
    EXPECT_EQ(std::system(command.c_str()), 0) << command;
    std::ifstream in(fs, std::ios::binary);
    std::string content{std::istreambuf_iterator<char>(in), {}};
    std::string whole(24_MiB, '\0');
    whole.replace(start, content.size(), content);
    if (start) {
      whole[446 + 16 + 4] = '\x83';  // the second partition
      const u32 sector = static_cast<u32>(start / sector_size);
      std::memcpy(&whole[446 + 16 + 8], &sector, 4);
      whole[510] = '\x55', whole[511] = '\xaa';
    }
    std::ofstream(out, std::ios::binary) << whole;
    return out;
  }
  static Result<BootDisk> find(const std::string& path) {
    return find_boot_disk(*open_disk_image(path, "raw").value().content);
  }
  static std::string text(const std::vector<u8>& bytes) { return {bytes.begin(), bytes.end()}; }
  static std::string noise(std::size_t size) {
    std::mt19937_64 random(size);
    std::string out(size, '\0');
    for (char& c : out) c = static_cast<char>(random());
    return out;
  }

  std::filesystem::path dir_;
};

TEST_F(BootDiskTest, FollowsDebiansLinks) {
  put("boot/vmlinuz-6.1.0-9", noise(3'000'000));
  put("boot/initrd.img-6.1.0-9", noise(100));
  link("vmlinuz", "boot/vmlinuz-6.1.0-9");
  link("initrd.img", "/boot/../boot/initrd.img-6.1.0-9");
  for (const char* options :
       {"-t ext4", "-t ext4 -b 1024 -I 256", "-t ext2 -b 1024", "-t ext4 -O ^64bit,^extents"}) {
    auto found = find(disk(options));
    ASSERT_TRUE(found.ok()) << options << ": " << found.error().message;
    EXPECT_EQ(found->kernel_path, "/vmlinuz");
    EXPECT_EQ(text(found->kernel), noise(3'000'000)) << options;
    EXPECT_EQ(text(found->initrd), noise(100));
    EXPECT_EQ(found->partition, 0u);
  }
}

TEST_F(BootDiskTest, TakesTheNewestKernelOfASecondPartition) {
  for (const char* version : {"6.1.0-9", "6.1.0-10", "5.10.0-99"}) {
    put(std::string("boot/vmlinuz-") + version, version);
    put(std::string("boot/initrd.img-") + version, std::string("initrd of ") + version);
  }
  auto found = find(disk("-t ext4", 1_MiB));
  ASSERT_TRUE(found.ok()) << found.error().message;
  EXPECT_EQ(found->kernel_path, "/boot/vmlinuz-6.1.0-10");
  EXPECT_EQ(text(found->initrd), "initrd of 6.1.0-10");
  EXPECT_EQ(found->partition, 2u);
}

TEST_F(BootDiskTest, PartitionTablesMayCountInLargeSectors) {
  put("boot/vmlinuz-6.1.0-9", "a kernel");
  const std::string path = disk("-t ext4", 1_MiB, "large", 4096);
  auto found = find(path);
  ASSERT_TRUE(found.ok()) << found.error().message;
  EXPECT_EQ(text(found->kernel), "a kernel");
  EXPECT_EQ(found->partition, 2u);
  // The same disk with a GPT: a protective MBR, the header in the second sector, the table in the third.
  std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
  const auto write = [&](u64 at, const std::string& bytes) {
    file.seekp(static_cast<i64>(at)).write(bytes.data(), static_cast<i64>(bytes.size()));
  };
  const auto number = [&](u64 at, u64 value, unsigned size) {
    write(at, {reinterpret_cast<const char*>(&value), size});
  };
  write(446, std::string(64, '\0'));
  write(446 + 4, "\xee");
  write(4096, "EFI PART");
  number(4096 + 72, 2, 8), number(4096 + 80, 4, 4), number(4096 + 84, 128, 4);
  write(2 * 4096 + 3 * 128, std::string(16, 'g'));
  number(2 * 4096 + 3 * 128 + 32, 1_MiB / 4096, 8);
  file.close();
  found = find(path);
  ASSERT_TRUE(found.ok()) << found.error().message;
  EXPECT_EQ(found->partition, 4u);
}

TEST_F(BootDiskTest, SaysWhatIsMissing) {
  EXPECT_THAT(find(disk("-t ext4", 1_MiB)).error().message,
              HasSubstr("partition 2: its file system has neither"));
  std::ofstream(dir_ / "empty", std::ios::binary) << std::string(1_MiB, '\0');
  EXPECT_THAT(find((dir_ / "empty").string()).error().message, HasSubstr("the disk: there is no ext4"));
  link("vmlinuz", "vmlinuz");
  EXPECT_FALSE(find(disk("-t ext4")).ok());
}

TEST_F(BootDiskTest, DamagedFileSystemsNeverCrash) {
  put("boot/vmlinuz-1", noise(2'000'000));
  link("vmlinuz", "boot/vmlinuz-1");
  const std::string path = disk("-t ext4 -b 1024");
  std::ifstream in(path, std::ios::binary);
  const std::string good{std::istreambuf_iterator<char>(in), {}};
  struct Memory final : BlockImage {
    std::string bytes;
    u64 size() const override { return bytes.size(); }
    Status read(u64 offset, std::span<u8> out) override {
      for (std::size_t i = 0; i < out.size(); ++i)
        out[i] = offset + i < bytes.size() ? static_cast<u8>(bytes[offset + i]) : 0;
      return {};
    }
  } image;
  std::mt19937_64 random(1);
  for (unsigned round = 0; round < 40; ++round) {
    image.bytes = good;
    for (unsigned i = 0; i < 200; ++i)
      image.bytes[1024 + random() % (random() % 2 ? 4096 : 600'000)] = static_cast<char>(random());
    (void)find_boot_disk(image);
  }
}

}  // namespace
}  // namespace deja
