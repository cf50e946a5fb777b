// Checkpoints from RAM to file and back, and what damage to the file costs.
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <map>
#include <random>
#include <thread>

#include "checkpoint/checkpoint_reader.h"
#include "checkpoint/checkpoint_writer.h"
#include "eventlog/append_file_for_test.h"
#include "eventlog/temp_dir_for_test.h"

namespace deja {
namespace {

constexpr u64 kRecording = 42;
constexpr u64 kFrames = 256;

TEST(CheckpointSerialText, IsBoundedAndSaysWhenItIsLeftOut) {
  std::string text;
  for (int i = 0; i < 3; ++i) add_serial_text(text, std::string(kMostSerialText / 2, 'x'));
  EXPECT_EQ(text.size(), kMostSerialText + 1) << "too long, and no longer";
  for (const bool left_out : {false, true})
    for (const bool whole : {false, true}) {
      CheckpointRecord r;
      r.point.serial_left_out = left_out;
      r.whole = whole;
      const std::string bytes = encode_checkpoint(r);
      const RecordHeader header =
          parse_record_header(std::string_view(bytes).substr(0, kRecordHeaderSize)).value();
      auto again = decode_checkpoint(std::string_view(bytes).substr(kRecordHeaderSize), header, {16, {}});
      ASSERT_TRUE(again.ok()) << again.error().message;
      EXPECT_EQ(again->point.serial_left_out, left_out);
      EXPECT_EQ(again->whole, whole);
    }
}

class CheckpointTest : public testing::Test {
 protected:
  CheckpointTest() : ram_(std::move(GuestRam::create(1_MiB)).value()) {
    write(3, 'L');  // loaded at power-on
  }
  void write(u32 frame, u8 value) {
    const std::vector<u8> page(kPageSize, value);
    ram_->write(Gpa(u64{frame} << kPageShift), page.data(), page.size());
  }
  void write_noise(u32 frame) {
    std::vector<u8> page(kPageSize);
    for (u8& b : page) b = static_cast<u8>(random_());
    ram_->write(Gpa(u64{frame} << kPageShift), page.data(), page.size());
  }
  std::vector<u8> ram_bytes() const { return {ram_->base(), ram_->base() + 1_MiB}; }

  // Forty checkpoints at steps 1000, 2000…, with some writes before each.
  void write_checkpoints(std::unique_ptr<AppendFile> file) {
    auto writer = CheckpointWriter::create(std::move(file), kRecording, *ram_);
    ASSERT_TRUE(writer);
    power_on_ = ram_bytes();
    for (Step step = 1000; step <= 40'000; step += 1000) {
      for (int i = 0; i < 4; ++i) write(random_() % kFrames, static_cast<u8>(random_() % 3));
      write_noise(random_() % kFrames);
      CheckpointPoint point;
      point.step = step;
      point.machine.cpus = {1, 2, 3};
      point.events = step / 10;
      (*writer)->take(point);
      content_[step] = ram_bytes();
    }
    status_ = (*writer)->finish();
  }
  CheckpointReader open() { return CheckpointReader::open(path(), kRecording, {kFrames, {}}); }
  std::filesystem::path path() const { return temp_.path / "checkpoints.dat"; }

  // The RAM at checkpoint `i`; empty when it cannot be read.
  std::vector<u8> read(const CheckpointReader& reader, std::size_t i) const {
    const RamImage image = reader.image(i);
    std::vector<u8> out = power_on_;
    std::vector<u32> numbers;
    for (u32 frame = 0; frame < kFrames; ++frame) {
      if (image[frame] == kZeroPage) std::memset(&out[frame * kPageSize], 0, kPageSize);
      if (image[frame] >= kFirstStoredPage) numbers.push_back(image[frame]);
    }
    std::sort(numbers.begin(), numbers.end());
    numbers.erase(std::unique(numbers.begin(), numbers.end()), numbers.end());
    const Status status = reader.read_pages(numbers, [&](u32 number, const u8* page) {
      for (u32 frame = 0; frame < kFrames; ++frame)
        if (image[frame] == number) std::memcpy(&out[frame * kPageSize], page, kPageSize);
    });
    return status ? out : std::vector<u8>();
  }

  TempDir temp_;
  std::mt19937 random_{1};
  std::unique_ptr<GuestRam> ram_;
  std::vector<u8> power_on_;
  std::map<Step, std::vector<u8>> content_;
  Status status_;
};

TEST_F(CheckpointTest, WhatWasTakenIsReadBack) {
  write_checkpoints(std::move(create_append_file(path().string())).value());
  ASSERT_TRUE(status_.ok());
  const CheckpointReader reader = open();
  EXPECT_EQ(reader.problem(), "");
  ASSERT_EQ(reader.size(), 40u);
  for (std::size_t i = 0; i < reader.size(); ++i) {
    const CheckpointPoint& p = reader.point(i);
    EXPECT_EQ(p.step, (i + 1) * 1000);
    EXPECT_EQ(p.events, p.step / 10);
    EXPECT_EQ(p.machine.cpus, (std::vector<u8>{1, 2, 3}));
    EXPECT_EQ(read(reader, i), content_[p.step]) << "checkpoint " << i;
  }
  EXPECT_EQ(reader.count_up_to(999), 0u);
  EXPECT_EQ(reader.count_up_to(1000), 1u);
  EXPECT_EQ(reader.count_up_to(~u64{0}), 40u);
}

TEST_F(CheckpointTest, EqualPagesAreStoredOnceAndZeroPagesNotAtAll) {
  auto disk = std::make_unique<FakeDisk>();
  auto writer = CheckpointWriter::create(std::make_unique<FakeAppendFile>(*disk), kRecording, *ram_);
  ASSERT_TRUE(writer);
  write_noise(10);
  const std::vector<u8> page(ram_->host(Gpa(10 << kPageShift)), ram_->host(Gpa(11 << kPageShift)));
  for (u32 frame = 20; frame < 200; ++frame)
    ram_->write(Gpa(u64{frame} << kPageShift), page.data(), kPageSize);
  write(5, 'x'), write(5, 0);
  (*writer)->take({});
  ASSERT_TRUE((*writer)->finish().ok());
  EXPECT_LT((*writer)->bytes(), kPageSize + 1500);
}

TEST_F(CheckpointTest, WritesAreOnRecordEvenThoseThatChangeNothing) {
  auto writer =
      CheckpointWriter::create(std::move(create_append_file(path().string())).value(), kRecording, *ram_);
  ASSERT_TRUE(writer);
  write(7, 1);
  CheckpointPoint point;
  point.step = 1;
  (*writer)->take(point);
  write(7, 2), write(7, 1);
  point.step = 2;
  (*writer)->take(point);
  point.step = 3;
  (*writer)->take(point);
  ASSERT_TRUE((*writer)->finish().ok());
  const CheckpointReader reader = open();
  ASSERT_EQ(reader.size(), 3u);
  EXPECT_TRUE(reader.may_have_written(0, 7));
  EXPECT_TRUE(reader.may_have_written(1, 7));
  EXPECT_FALSE(reader.may_have_written(2, 7));
  EXPECT_FALSE(reader.may_have_written(0, 8));
}

TEST_F(CheckpointTest, NoDamagePassesForContent) {
  write_checkpoints(std::move(create_append_file(path().string())).value());
  const std::string sound = slurp(path());
  for (std::size_t at = 0; at < sound.size(); at += 1 + at / 23) {
    std::string bytes = sound;
    bytes[at] = static_cast<char>(bytes[at] ^ 1 << at % 8);
    spew(path(), bytes);
    const CheckpointReader reader = open();
    bool refused = !reader.problem().empty();
    for (std::size_t i = 0; i < reader.size(); ++i) {
      const std::vector<u8> ram = read(reader, i);
      if (ram.empty())
        refused = true;
      else
        ASSERT_EQ(ram, content_[reader.point(i).step]) << "byte " << at << ", checkpoint " << i;
    }
    EXPECT_TRUE(refused) << "byte " << at;
  }
}

TEST_F(CheckpointTest, AFileThatIsCutOffHasTheCheckpointsBeforeTheCut) {
  write_checkpoints(std::move(create_append_file(path().string())).value());
  const std::string sound = slurp(path());
  std::size_t most = 0;
  for (std::size_t size = 0; size <= sound.size(); size += 1 + size / 50) {
    spew(path(), sound.substr(0, size));
    const CheckpointReader reader = open();
    EXPECT_GE(reader.size(), most);
    most = reader.size();
    if (most) {
      EXPECT_EQ(read(reader, most - 1), content_[most * 1000]);
    }
  }
}

TEST_F(CheckpointTest, AFullDiskEndsTheCheckpointsAndKeepsThoseBefore) {
  FakeDisk disk;
  disk.capacity = 60'000;
  write_checkpoints(std::make_unique<FakeAppendFile>(disk));
  ASSERT_FALSE(status_.ok());
  spew(path(), disk.bytes);
  const CheckpointReader reader = open();
  EXPECT_EQ(reader.problem(), "");
  ASSERT_GT(reader.size(), 3u);
  ASSERT_LT(reader.size(), 40u);
  EXPECT_EQ(read(reader, reader.size() - 1), content_[reader.size() * 1000]);
}

// No writer makes such a file.
TEST_F(CheckpointTest, OneThatLeansOnNothingIsNotThereAndLeavesAGap) {
  std::string bytes = make_checkpoint_file_header(kRecording);
  for (const bool whole : {false, true, false}) {
    CheckpointRecord r;
    r.point.step = bytes.size();
    r.whole = whole;
    r.first_new = kFirstStoredPage;
    bytes += encode_checkpoint(r);
  }
  spew(path(), bytes);
  const CheckpointReader reader = open();
  EXPECT_EQ(reader.size(), 2u);
  EXPECT_FALSE(reader.is_unbroken(0));
  EXPECT_FALSE(reader.is_unbroken(1));
  EXPECT_TRUE(reader.may_have_written(0, 5));
}

TEST_F(CheckpointTest, CheckpointsOfAnotherRecordingAreRefused) {
  write_checkpoints(std::move(create_append_file(path().string())).value());
  const CheckpointReader reader = CheckpointReader::open(path(), kRecording + 1, {kFrames, {}});
  EXPECT_EQ(reader.size(), 0u);
  EXPECT_NE(reader.problem().find("another recording"), std::string::npos);
}

// --- disks, bases, going on

class NoiseImage : public BlockImage {
 public:
  u64 size() const override { return 1_MiB; }
  Status read(u64 offset, std::span<u8> out) override {
    for (u8& b : out) b = static_cast<u8>(offset++ * 37 >> 4);
    return {};
  }
};

class CheckpointedDiskTest : public CheckpointTest {
 protected:
  void fill(u64 block, u8 value) {
    ASSERT_TRUE(disk_.write(block * kPageSize, std::vector<u8>(kPageSize, value)).ok());
  }
  CheckpointPoint point(Step step) {
    CheckpointPoint p;
    p.step = step;
    p.machine.disks = {disk_.snapshot()};
    p.events = 10 * step;
    p.serial = "text before " + std::to_string(step);
    content_[step] = ram_bytes();
    disk_digest_[step] = disk_.digest();
    return p;
  }
  std::unique_ptr<AppendFile> file(const std::string& name) {
    return std::move(create_append_file((temp_.path / name).string())).value();
  }
  CheckpointReader open(const std::string& name) {
    return CheckpointReader::open(temp_.path / name, kRecording, {kFrames, {disk_.block_count()}});
  }
  // The disk at checkpoint `i`, put together from what the file says.
  u64 disk_digest(const CheckpointReader& reader, std::size_t i) {
    std::vector<DiskOverlay::NumberedBlock> blocks;
    std::array<u8, kPageSize> zeros{};
    for (const FramePage& b : reader.disk(i, 0)) {
      if (b.page == kZeroPage) {
        blocks.push_back({b.frame, disk_.make_block(b.frame, zeros.data()).value()});
        continue;
      }
      const Status status = reader.read_pages({&b.page, 1}, [&](u32, const u8* page) {
        blocks.push_back({b.frame, disk_.make_block(b.frame, page).value()});
      });
      EXPECT_TRUE(status.ok());
    }
    DiskOverlay other(image_);
    other.restore(other.snapshot_of(blocks));
    return other.digest();
  }
  void expect_all(const CheckpointReader& reader, std::size_t count) {
    EXPECT_EQ(reader.problem(), "");
    ASSERT_EQ(reader.size(), count);
    for (std::size_t i = 0; i < count; ++i) {
      const Step step = reader.point(i).step;
      EXPECT_EQ(read(reader, i), content_[step]) << "RAM at step " << step;
      EXPECT_EQ(disk_digest(reader, i), disk_digest_[step]) << "disk at step " << step;
      if (step != reader_base_) {
        EXPECT_EQ(reader.point(i).serial, "text before " + std::to_string(step));
      }
    }
  }
  Status move(CheckpointWriter& writer, const std::string& from, std::unique_ptr<AppendFile> to, Step base) {
    writer.begin_move({std::move(to), temp_.path / from, {kFrames, {disk_.block_count()}}, base, 3});
    while (true) {
      if (const std::optional<Status> outcome = writer.move_outcome()) return *outcome;
      std::this_thread::yield();
    }
  }
  void run(CheckpointWriter& writer, Step from, Step to) {
    for (Step step = from; step <= to; ++step) {
      write(random_() % kFrames, static_cast<u8>(random_()));
      fill(random_() % disk_.block_count(), static_cast<u8>(random_() % 4));
      if (step % 3 == 0) write_noise(random_() % kFrames);
      writer.take(point(step));
    }
  }

  NoiseImage image_;
  DiskOverlay disk_{image_};
  std::map<Step, u64> disk_digest_;
  Step reader_base_ = 0;  // of a file that was moved: what was sent before it is not told
};

TEST_F(CheckpointedDiskTest, WhatWasWrittenToDisksIsReadBack) {
  power_on_ = ram_bytes();
  auto writer = CheckpointWriter::create(file("a"), kRecording, *ram_);
  ASSERT_TRUE(writer);
  run(**writer, 1, 40);
  ASSERT_TRUE((*writer)->finish().ok());
  expect_all(open("a"), 40);
}

TEST_F(CheckpointedDiskTest, ABaseStandsByItselfWhateverTheMachineWasLoadedWith) {
  power_on_ = ram_bytes();
  auto writer = CheckpointWriter::create(file("a"), kRecording, *ram_);
  ASSERT_TRUE(writer);
  write(7, 1);
  fill(3, 3), fill(4, 0);
  ASSERT_TRUE((*writer)->take_base(point(1)).ok());
  run(**writer, 2, 20);
  ASSERT_TRUE((*writer)->finish().ok());
  power_on_.assign(1_MiB, 0xee);
  const CheckpointReader reader = open("a");
  expect_all(reader, 20);
  const RamImage image = reader.image(0);
  EXPECT_EQ(std::count(image.begin(), image.end(), kPowerOnPage), 0);
}

TEST_F(CheckpointedDiskTest, AWriterGoesOnWhereAnotherFileWas) {
  power_on_ = ram_bytes();
  {
    auto writer = CheckpointWriter::create(file("a"), kRecording, *ram_);
    ASSERT_TRUE(writer);
    run(**writer, 1, 20);
    ASSERT_TRUE((*writer)->finish().ok());
  }
  const DiskOverlay::Snapshot disk = disk_.snapshot();
  // Written after the checkpoint at step 20, before anybody goes on from it.
  write(9, 99);
  fill(9, 99);
  const CheckpointReader first = open("a");
  const u64 a_bytes = first.file_bytes();
  auto writer = CheckpointWriter::resume(file("b"), kRecording, *ram_, {&first, 19, {9}, {disk}});
  ASSERT_TRUE(writer);
  run(**writer, 21, 40);
  ASSERT_TRUE((*writer)->finish().ok());
  const CheckpointReader second = open("b");
  expect_all(second, 40);
  EXPECT_LT(second.file_bytes(), 3 * a_bytes) << "contents that are there already are not stored again";
}

TEST_F(CheckpointedDiskTest, TheBeginningMovesOnWhileCheckpointsAreTaken) {
  power_on_ = ram_bytes();
  auto writer = CheckpointWriter::create(file("a"), kRecording, *ram_);
  ASSERT_TRUE(writer);
  write(7, 1);
  fill(3, 3), fill(4, 0);
  ASSERT_TRUE((*writer)->take_base(point(1)).ok());
  for (Step step = 2; step <= 31; ++step) {
    write_noise(200);  // of which only the last is needed
    (*writer)->take(point(step));
  }
  run(**writer, 32, 50);
  ASSERT_TRUE(move(**writer, "a", file("b"), 39).ok());
  run(**writer, 51, 70);
  while (open("b").size() < 32)
    std::this_thread::yield();  // what is written later goes into the next file alone
  ASSERT_TRUE(move(**writer, "b", file("c"), 60).ok());
  run(**writer, 71, 80);
  ASSERT_TRUE((*writer)->finish().ok());
  power_on_.assign(1_MiB, 0xee);  // is not needed
  for (const auto& [name, base] : {std::pair("b", Step{39}), std::pair("c", Step{60})}) {
    const CheckpointReader reader = open(name);
    reader_base_ = base;
    ASSERT_GT(reader.size(), 5u);
    EXPECT_EQ(reader.point(0).step, base);
    expect_all(reader, reader.size());
    EXPECT_EQ(reader.point(0).events, 0u);
    EXPECT_EQ(reader.point(0).serial, "");
    EXPECT_EQ(reader.point(5).events, 3 + 50u) << "the opening events, and ten a step";
  }
  EXPECT_EQ(open("b").size(), 32u);
  EXPECT_EQ(open("c").size(), 21u);
  EXPECT_LT(open("c").file_bytes(), open("a").file_bytes())
      << "contents that nothing needs any more are gone";
}

TEST_F(CheckpointedDiskTest, AMoveThatFailsLeavesAllAsItWas) {
  power_on_ = ram_bytes();
  auto writer = CheckpointWriter::create(file("a"), kRecording, *ram_);
  ASSERT_TRUE(writer);
  ASSERT_TRUE((*writer)->take_base(point(1)).ok());
  run(**writer, 2, 10);
  while (open("a").size() < 10) std::this_thread::yield();
  FakeDisk disk;
  disk.capacity = 5000;
  EXPECT_FALSE(move(**writer, "a", std::make_unique<FakeAppendFile>(disk), 5).ok());
  EXPECT_FALSE(move(**writer, "a", file("b"), 99).ok()) << "there is no such checkpoint";
  run(**writer, 11, 20);
  ASSERT_TRUE((*writer)->finish().ok());
  expect_all(open("a"), 20);
}

}  // namespace
}  // namespace deja
