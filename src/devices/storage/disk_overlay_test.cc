// What a guest writes to a disk, with its blocks in memory and in scratch space.
#include "devices/storage/disk_overlay.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

namespace deja {
namespace {

class NumberedImage final : public BlockImage {
 public:
  u64 size() const override { return 1_MiB - 1000; }
  Status read(u64 offset, std::span<u8> out) override {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = at(offset + i);
    return {};
  }
  u8 at(u64 i) const { return i < size() ? static_cast<u8>(i / 512 + i % 512) : 0; }
};

BlockStore make_store(u64 bytes_in_memory) {
  return {bytes_in_memory, std::move(ScratchFile::create(testing::TempDir())).value()};
}

// Bytes in memory; the rest goes to scratch space.
class DiskOverlayTest : public testing::TestWithParam<u64> {
 protected:
  void fill(DiskOverlay& to, u64 offset, u8 value) {
    ASSERT_TRUE(to.write(offset, std::vector<u8>(5000, value)).ok());
  }
  u8 byte(u64 offset) {
    u8 b = 0;
    EXPECT_TRUE(disk.read(offset, {&b, 1}).ok());
    return b;
  }
  NumberedImage image;
  BlockStore store{make_store(GetParam())};
  DiskOverlay disk{image, store};
};

INSTANTIATE_TEST_SUITE_P(Memory, DiskOverlayTest, testing::Values(0, 5 * DiskOverlay::kBlockSize, 1_GiB));

TEST_P(DiskOverlayTest, SnapshotsAreIndependent) {
  fill(disk, 10'000, 1);
  const DiskOverlay::Snapshot first = disk.snapshot();
  const u64 digest = disk.digest();
  fill(disk, 10'000, 2);
  fill(disk, 500'000, 3);
  EXPECT_NE(disk.digest(), digest);
  disk.restore(first);
  EXPECT_EQ(disk.digest(), digest);
  EXPECT_EQ(byte(10'000), 1);
  EXPECT_EQ(byte(500'000), image.at(500'000));
  fill(disk, 10'000, 2);
  fill(disk, 500'000, 3);
  BlockStore in_memory(0, std::nullopt);
  DiskOverlay other{image, in_memory};
  fill(other, 500'000, 3);
  fill(other, 10'000, 1);
  fill(other, 10'000, 2);
  EXPECT_EQ(other.digest(), disk.digest()) << "a function of content, not of the way there";
  disk.restore(first);
  EXPECT_EQ(byte(10'000), 1) << "the snapshot was not written through";
}

TEST_P(DiskOverlayTest, HoldsWhatWasWrittenWhereverItIs) {
  std::mt19937_64 random(GetParam() + 1);
  std::vector<u8> expected(1_MiB);
  for (u64 i = 0; i < expected.size(); ++i) expected[i] = image.at(i);
  struct Then {
    DiskOverlay::Snapshot snapshot;
    std::vector<u8> content;
  };
  std::vector<Then> then;
  for (int i = 0; i < 400; ++i) {
    const u64 bytes = 512 * (1 + random() % 40), offset = 512 * (random() % ((1_MiB - bytes) / 512));
    std::vector<u8> data(bytes);
    for (u8& b : data) b = static_cast<u8>(random());
    ASSERT_TRUE(disk.write(offset, data).ok());
    std::memcpy(&expected[offset], data.data(), bytes);
    if (i % 50 == 0) then.push_back({disk.snapshot(), expected});
    if (i % 70 == 69) {
      const Then& back = then[random() % then.size()];
      disk.restore(back.snapshot);
      expected = back.content;
    }
    std::vector<u8> got(1_MiB);
    ASSERT_TRUE(disk.read(0, got).ok());
    ASSERT_EQ(got, expected) << "after write " << i;
  }
}

// Writes and zeros anywhere, against a copy of the whole disk.
TEST_P(DiskOverlayTest, ZerosReadBackWhereverTheyBegin) {
  std::mt19937_64 random(GetParam() + 2);
  std::vector<u8> expected(1_MiB);
  for (u64 i = 0; i < expected.size(); ++i) expected[i] = image.at(i);
  for (int i = 0; i < 300; ++i) {
    const u64 bytes = 512 * (1 + random() % (i % 3 ? 40 : 400)),
              offset = 512 * (random() % ((1_MiB - bytes) / 512));
    if (random() % 2) {
      ASSERT_TRUE(disk.write_zeros(offset, bytes).ok());
      std::memset(&expected[offset], 0, bytes);
    } else {
      std::vector<u8> data(bytes, static_cast<u8>(random() | 1));
      ASSERT_TRUE(disk.write(offset, data).ok());
      std::memcpy(&expected[offset], data.data(), bytes);
    }
    std::vector<u8> got(1_MiB);
    ASSERT_TRUE(disk.read(0, got).ok());
    ASSERT_EQ(got, expected) << "after " << i;
  }
}

TEST_P(DiskOverlayTest, ZerosTakeNoRoomAndAreStateLikeAnyWrite) {
  ASSERT_TRUE(disk.write(0, std::vector<u8>(512_KiB, 7)).ok());
  DiskOverlay::Snapshot written = disk.snapshot();
  const u64 digest = disk.digest();
  ASSERT_TRUE(disk.write_zeros(0, 512_KiB).ok());
  EXPECT_NE(disk.digest(), digest);
  const DiskOverlay::Snapshot zeroed = disk.snapshot();
  EXPECT_EQ(DiskOverlay::changes(written, zeroed).size(), 128u);
  for (const auto& [number, block] : DiskOverlay::changes(written, zeroed)) EXPECT_TRUE(block->is_zero());
  disk.restore(written);
  EXPECT_EQ(byte(1000), 7);
  disk.restore(zeroed);
  EXPECT_EQ(byte(1000), 0);
  BlockStore in_memory(0, std::nullopt);
  DiskOverlay other{image, in_memory};
  ASSERT_TRUE(other.write(0, std::vector<u8>(512_KiB)).ok());
  EXPECT_EQ(other.digest(), disk.digest()) << "zeros are zeros, whoever wrote them";
  // Only zeros are left.
  disk.clear();
  written = {};
  EXPECT_EQ(store.scratch_bytes(), 0u);
}

TEST_P(DiskOverlayTest, BlocksOfZerosAreOne) {
  ASSERT_TRUE(disk.write(0, std::vector<u8>(512_KiB, 7)).ok());
  ASSERT_TRUE(disk.write_zeros(0, 512_KiB).ok());
  ASSERT_TRUE(disk.write(600_KiB, std::vector<u8>(8192)).ok());
  const DiskOverlay::Snapshot zeroed = disk.snapshot();
  const auto blocks = DiskOverlay::changes({}, zeroed);
  ASSERT_EQ(blocks.size(), 130u);
  u64 digest = 0;
  const StoredBlock::Bytes zeros{};
  for (const auto& [number, block] : blocks) {
    EXPECT_EQ(block, blocks[0].block) << number;
    // Recordings hold this digest.
    digest += XXH3_64bits_withSeed(zeros.data(), zeros.size(), number * 0x9e3779b97f4a7c15u + 1) | 1;
  }
  EXPECT_EQ(disk.digest(), digest);
  EXPECT_EQ(disk.snapshot_of(blocks).digest, digest);
  // And they are taken out of the digest again.
  fill(disk, 0, 3);
  disk.restore(zeroed);
  fill(disk, 0, 3);
  DiskOverlay other{image, store};
  fill(other, 0, 3);
  ASSERT_TRUE(other.write(5000, std::vector<u8>(512_KiB - 5000)).ok());
  ASSERT_TRUE(other.write(600_KiB, std::vector<u8>(8192)).ok());
  EXPECT_EQ(disk.digest(), other.digest());
}

TEST_P(DiskOverlayTest, WhatIsZeroInTheImageNeedsNoBlock) {
  struct Sparse final : BlockImage {
    u64 size() const override { return 64_MiB; }
    Status read(u64 offset, std::span<u8> out) override {
      std::fill(out.begin(), out.end(), u8{0});
      if (broken) return make_error("broken");
      if (offset <= 5_MiB && 5_MiB < offset + out.size()) out[5_MiB - offset] = 1;
      return {};
    }
    bool broken = false;
  } sparse;
  DiskOverlay thin{sparse, store};
  ASSERT_TRUE(thin.write_zeros(0, 64_MiB).ok());
  EXPECT_EQ(thin.blocks_written(), 1u);
  u8 b = 1;
  ASSERT_TRUE(thin.read(5_MiB, {&b, 1}).ok());
  EXPECT_EQ(b, 0);
  ASSERT_TRUE(thin.write(6_MiB, std::vector<u8>(4096, 1)).ok());
  const u64 digest = thin.digest();
  sparse.broken = true;
  EXPECT_FALSE(thin.write_zeros(0, 64_MiB).ok());
  EXPECT_EQ(thin.digest(), digest) << "an error changes nothing";
}

TEST_P(DiskOverlayTest, RoomIsUsedAgain) {
  for (int i = 0; i < 1000; ++i) fill(disk, 8192, static_cast<u8>(i));
  // A write's blocks are there before those that they take the place of go.
  EXPECT_LE(store.scratch_bytes(), 4 * DiskOverlay::kBlockSize);
  const DiskOverlay::Snapshot all = disk.snapshot();
  disk.clear();
  EXPECT_EQ(byte(8192), image.at(8192));
  disk.restore(all);
  EXPECT_EQ(byte(8192), static_cast<u8>(999));
}

TEST_P(DiskOverlayTest, BlocksAreDroppedByOtherThreads) {
  std::vector<std::thread> threads;
  for (u8 t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      DiskOverlay own{image, store};
      for (int i = 0; i < 200; ++i) {
        fill(own, 4096 * t, static_cast<u8>(i));
        u8 b = 0;
        ASSERT_TRUE(own.read(4096 * t, {&b, 1}).ok());
        ASSERT_EQ(b, static_cast<u8>(i));
      }
    });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(store.scratch_bytes(), 0u);
}

TEST(ScratchSpace, AFullDiskIsAnErrorAndNothingHasHappened) {
  NumberedImage image;
  BlockStore store = make_store(0);
  DiskOverlay disk{image, store};
  ::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit limit{10 * DiskOverlay::kBlockSize, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  const std::vector<u8> data(8 * DiskOverlay::kBlockSize, 7);
  EXPECT_TRUE(disk.write(0, data).ok());
  const u64 digest = disk.digest();
  const Status refused = disk.write(4096, data);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("scratch space in " + testing::TempDir()), std::string::npos)
      << refused.error().message;
  EXPECT_EQ(disk.digest(), digest);
  EXPECT_EQ(store.scratch_bytes(), data.size());
  // There is room again.
  EXPECT_TRUE(disk.write(4096, data).ok());
  std::vector<u8> got(data.size());
  ASSERT_TRUE(disk.read(4096, got).ok());
  EXPECT_EQ(got, data);
}

// The kernel writes back on its own, and what it could not write is gone.
TEST(ScratchSpace, ContentThatTheHostLostIsNoticed) {
  NumberedImage image;
  BlockStore store = make_store(0);
  DiskOverlay disk{image, store};
  const std::vector<u8> data(2 * DiskOverlay::kBlockSize, 7);
  ASSERT_TRUE(disk.write(0, data).ok());
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code ec;
    const std::string name = std::filesystem::read_symlink(entry.path(), ec);
    if (!name.starts_with(testing::TempDir()) || !name.ends_with("(deleted)")) continue;
    std::fstream(entry.path(), std::ios::in | std::ios::out | std::ios::binary).seekp(5000).put(0);
  }
  std::vector<u8> got(DiskOverlay::kBlockSize);
  EXPECT_TRUE(disk.read(0, got).ok());
  const Status lost = disk.read(DiskOverlay::kBlockSize, got);
  ASSERT_FALSE(lost.ok());
  EXPECT_NE(lost.error().message.find("not what was written"), std::string::npos) << lost.error().message;
}

TEST(ScratchSpace, NoPlaceForItIsNamed) {
  auto file = ScratchFile::create("/nowhere");
  ASSERT_FALSE(file.ok());
  EXPECT_NE(file.error().message.find("/nowhere"), std::string::npos);
}

}  // namespace
}  // namespace deja
