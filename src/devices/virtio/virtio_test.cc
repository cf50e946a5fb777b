#include <gmock/gmock.h>

#include "devices/virtio/virtio_blk.h"
#include "devices/virtio/virtio_console.h"
#include "devices/virtio/virtio_driver_for_test.h"
#include "devices/virtio/virtio_net.h"
#include "devices/virtio/virtio_rng.h"

namespace deja {
namespace {

using testing::ElementsAre;

// Byte i of the image is i / 512 + i % 512, so that every sector differs.
class PatternImage final : public BlockImage {
 public:
  u64 size() const override { return 1_MiB; }
  Status read(u64 offset, std::span<u8> out) override {
    if (fails) return make_error("the host's disk is broken");
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = at(offset + i);
    return {};
  }
  static u8 at(u64 i) { return static_cast<u8>(i / 512 + i % 512); }
  bool fails = false;
};

class VirtioTest : public testing::Test {
 protected:
  VirtioWiring wiring() {
    return {*ram, time, [this](u64 address, u32 data) { messages.push_back(address << 32 | data); }};
  }
  std::unique_ptr<GuestRam> ram = GuestRam::create(2_MiB).value();
  FakeTime time;
  std::vector<u64> messages;
  static constexpr u64 kMessage0 = u64{0xfee00000} << 32 | 0x41;  // of queue 0
};

class VirtioBlkTest : public VirtioTest {
 protected:
  static constexpr u64 kHeader = 0x40000, kData = 0x50000, kStatus = 0x60000;

  // A request as Linux makes it: header, data, status.
  void request(u32 type, u64 sector, u32 bytes, u16 first = 0) {
    driver.put(kHeader, type);
    driver.put(kHeader + 8, sector);
    driver.put(kStatus, u8{0xee});
    std::vector<VirtioDriver::Piece> pieces{{kHeader, 16, false}};
    if (bytes) pieces.push_back({kData, bytes, type != 1});
    pieces.push_back({kStatus, 1, true});
    driver.offer(0, first, pieces);
    driver.notify(0);
  }
  u8 done() {
    run_until(time, time.now_ + 1'000'000, disk);
    return driver.get<u8>(kStatus);
  }

  PatternImage image;
  DiskOverlay overlay{image};
  std::optional<Error> trouble;
  VirtioBlk disk{"disk", {"serial no. 7", false}, overlay, wiring(), [this](const Error& e) { trouble = e; }};
  VirtioDriver driver{disk, *ram};
};

TEST_F(VirtioBlkTest, ReadsTheImageAfterItsLatencyAndInterrupts) {
  driver.start(1);
  request(0, 3, 1024);
  EXPECT_EQ(driver.used(0), 0) << "nothing happens at the notification itself";
  EXPECT_EQ(disk.next_event(), time.now_ + 20'000);
  EXPECT_EQ(done(), 0);
  EXPECT_EQ(driver.used(0), 1);
  EXPECT_EQ(driver.used_size(0, 0), 1025u);
  for (u64 i = 0; i < 1024; ++i) ASSERT_EQ(driver.get<u8>(kData + i), PatternImage::at(3 * 512 + i));
  EXPECT_THAT(messages, ElementsAre(kMessage0));
}

TEST_F(VirtioBlkTest, WritesGoToTheOverlayAndAreReadBack) {
  driver.start(1);
  for (u64 i = 0; i < 1536; ++i) driver.put(kData + i, static_cast<u8>(i * 7));
  const u64 before = overlay.digest();
  request(1, 9, 1536);
  EXPECT_EQ(done(), 0);
  EXPECT_NE(overlay.digest(), before);
  std::vector<u8> back(4096);
  ASSERT_TRUE(overlay.read(8 * 512, back).ok());
  for (u64 i = 0; i < back.size(); ++i)
    ASSERT_EQ(back[i], i >= 512 && i < 2048 ? static_cast<u8>((i - 512) * 7) : PatternImage::at(4096 + i))
        << i;
}

TEST_F(VirtioBlkTest, RequestsBeyondTheEndOrUnknownFailAlone) {
  driver.start(1);
  request(0, 2047, 1024);
  EXPECT_EQ(done(), 1);
  request(0, ~u64{0}, 512);
  EXPECT_EQ(done(), 1);
  request(0, 0, 100);
  EXPECT_EQ(done(), 1);
  request(77, 0, 512);
  EXPECT_EQ(done(), 2);
  request(8, 0, 20);
  EXPECT_EQ(done(), 0);
  EXPECT_EQ(driver.get<u64>(kData), 0x6e206c6169726573u);  // "serial n"
  EXPECT_FALSE(driver.broken());
}

// A discard or write-zeroes request, with one range.
class VirtioBlkZeroTest : public VirtioBlkTest {
 protected:
  static constexpr u32 kDiscard = 11, kWriteZeroes = 13;
  u8 zero(u32 type, u64 sector, u32 sectors, u32 flags = 0, u32 bytes = 16) {
    ask(type, sector, sectors, flags, bytes);
    return done();
  }
  void ask(u32 type, u64 sector, u32 sectors, u32 flags, u32 bytes) {
    driver.put(kHeader, type);
    driver.put(kHeader + 8, u64{0});
    driver.put(kData, sector), driver.put(kData + 8, sectors), driver.put(kData + 12, flags);
    driver.put(kStatus, u8{0xee});
    driver.offer(0, 0, {{kHeader, 16, false}, {kData, bytes, false}, {kStatus, 1, true}});
    driver.notify(0);
  }
  u8 byte(u64 at) {
    u8 b = 0xee;
    EXPECT_TRUE(overlay.read(at, {&b, 1}).ok());
    return b;
  }
  // Reads a field of the device-specific configuration.
  template <class T>
  T config(u64 at) {
    return static_cast<T>(disk.bar_read(4, 0x2000 + at, sizeof(T)));
  }
};

TEST_F(VirtioBlkZeroTest, WhatIsDiscardedReadsAsZeros) {
  driver.start(1, VirtioPci::kVersion1 | u64{1} << 13 | u64{1} << 14);
  EXPECT_FALSE(driver.broken());
  EXPECT_EQ(config<u32>(36), VirtioBlk::kMaxZeroedSectors);
  EXPECT_EQ(config<u32>(40), 1u);
  EXPECT_EQ(config<u32>(44), 1u);
  EXPECT_EQ(config<u32>(48), VirtioBlk::kMaxZeroedSectors);
  EXPECT_EQ(config<u32>(52), 1u);
  EXPECT_EQ(config<u8>(56), 1u);
  for (const auto& [type, flags] :
       {std::pair(kDiscard, 0u), std::pair(kWriteZeroes, 0u), std::pair(kWriteZeroes, 1u)}) {
    for (u64 i = 0; i < 8192; ++i) driver.put(kData + i, u8{7});
    request(1, 9, 8192);
    ASSERT_EQ(done(), 0);
    const u64 before = overlay.digest();
    EXPECT_EQ(zero(type, 11, 9, flags), 0);
    EXPECT_NE(overlay.digest(), before);
    EXPECT_EQ(byte(11 * 512 - 1), 7);
    EXPECT_EQ(byte(11 * 512), 0);
    EXPECT_EQ(byte(20 * 512 - 1), 0);
    EXPECT_EQ(byte(20 * 512), 7);
  }
  EXPECT_EQ(zero(kDiscard, 5, 0), 0) << "nothing";
}

TEST_F(VirtioBlkZeroTest, BadRangesFailAlone) {
  driver.start(1);
  const u64 before = overlay.digest();
  EXPECT_EQ(zero(kDiscard, 2047, 2), 1) << "beyond the end";
  EXPECT_EQ(zero(kDiscard, ~u64{0}, 1), 1);
  EXPECT_EQ(zero(kWriteZeroes, 0, ~u32{0}), 1);
  EXPECT_EQ(zero(kDiscard, 0, VirtioBlk::kMaxZeroedSectors + 1), 1);
  EXPECT_EQ(zero(kDiscard, 0, 8, 1), 2) << "a discard has no flag for unmapping";
  EXPECT_EQ(zero(kWriteZeroes, 0, 8, 2), 2) << "an unknown flag";
  EXPECT_EQ(zero(kDiscard, 0, 8, 0, 15), 2);
  EXPECT_EQ(zero(kDiscard, 0, 8, 0, 32), 2) << "two ranges";
  EXPECT_EQ(overlay.digest(), before);
  image.fails = true;
  ask(kDiscard, 0, 8, 0, 16);
  time.now_ += 20'000;
  disk.advance(time.now_);
  EXPECT_EQ(driver.get<u8>(kStatus), 0xee) << "the host's trouble, which the guest does not see";
  EXPECT_TRUE(trouble);
  EXPECT_EQ(overlay.digest(), before);
  EXPECT_FALSE(driver.broken());
}

TEST_F(VirtioBlkTest, AReadOnlyDiskOffersNoDiscard) {
  VirtioBlk fixed{"fixed", {"", true}, overlay, wiring(), [](const Error&) {}};
  fixed.bar_write(4, 0, 0, 4);
  EXPECT_EQ(fixed.bar_read(4, 4, 4) >> 13 & 3, 0u);
  EXPECT_EQ(fixed.bar_read(4, 0x2000 + 36, 4), 0u);
  disk.bar_write(4, 0, 0, 4);
  EXPECT_EQ(disk.bar_read(4, 4, 4) >> 13 & 3, 3u);
}

TEST_F(VirtioBlkTest, LargeSectors) {
  VirtioBlk large{"large", {"", false, {4096, 16384}}, overlay, wiring(), [](const Error&) {}};
  VirtioDriver user{large, *ram};
  user.start(1);
  const auto config = [&](u64 at, unsigned size) { return large.bar_read(4, 0x2000 + at, size); };
  EXPECT_EQ(config(0, 8), image.size() / 512) << "the capacity is in sectors of 512 bytes all the same";
  EXPECT_EQ(config(20, 4), 4096u);
  EXPECT_EQ(config(24, 1), 2u) << "physical blocks of four";
  EXPECT_EQ(config(44, 4), 8u) << "discard_sector_alignment";
  large.bar_write(4, 0, 0, 4);
  EXPECT_TRUE(large.bar_read(4, 4, 4) >> 10 & 1) << "topology";
  const auto ask = [&](u32 type, u64 sector, u32 bytes) {
    user.put(kHeader, type), user.put(kHeader + 8, sector), user.put(kStatus, u8{0xee});
    user.offer(0, 0, {{kHeader, 16, false}, {kData, bytes, type == 0}, {kStatus, 1, true}});
    user.notify(0);
    run_until(time, time.now_ + 1'000'000, large);
    return user.get<u8>(kStatus);
  };
  EXPECT_EQ(ask(0, 8, 4096), 0);
  for (u64 i = 0; i < 4096; ++i) ASSERT_EQ(user.get<u8>(kData + i), PatternImage::at(4096 + i));
  EXPECT_EQ(ask(1, 16, 8192), 0);
  EXPECT_EQ(ask(0, 8, 512), 1) << "no whole block";
  EXPECT_EQ(ask(0, 9, 4096), 1) << "not where one begins";
  EXPECT_EQ(ask(1, 12, 4096), 1);
  EXPECT_EQ(ask(1, 8, 4608), 1);
  user.put(kData, u64{8}), user.put(kData + 8, u32{4}), user.put(kData + 12, u32{0});
  EXPECT_EQ(ask(11, 0, 16), 1);
  user.put(kData, u64{8}), user.put(kData + 8, u32{8}), user.put(kData + 12, u32{0});
  EXPECT_EQ(ask(11, 0, 16), 0);
}

TEST_F(VirtioBlkTest, HostTroubleChangesNothingAndTheSameIsTriedAgain) {
  driver.start(1);
  image.fails = true;
  request(0, 0, 512);
  time.now_ += 20'000;
  disk.advance(time.now_);
  ASSERT_TRUE(trouble);
  EXPECT_EQ(driver.used(0), 0);
  EXPECT_EQ(driver.get<u8>(kStatus), 0xee);
  EXPECT_EQ(disk.next_event(), time.now_);
  image.fails = false;
  disk.advance(time.now_);
  EXPECT_EQ(driver.used(0), 1);
  EXPECT_EQ(driver.get<u8>(kStatus), 0);
}

TEST_F(VirtioBlkTest, IndirectChains) {
  driver.start(1);
  driver.put(kHeader, u32{0});
  driver.put(kHeader + 8, u64{1});
  const auto entry = [&](u64 n, u64 address, u32 size, u16 flags) {
    driver.put(0x70000 + 16 * n, address);
    driver.put(0x70000 + 16 * n + 8, size);
    driver.put(0x70000 + 16 * n + 12, flags);
    driver.put(0x70000 + 16 * n + 14, static_cast<u16>(n + 1));
  };
  entry(0, kHeader, 16, 1), entry(1, kData, 512, 3), entry(2, kStatus, 1, 2);
  driver.descriptor(0, 5, 0x70000, 48, 4, 0);
  driver.offer_head(0, 5);
  driver.notify(0);
  EXPECT_EQ(done(), 0);
  EXPECT_EQ(driver.get<u8>(kData + 5), PatternImage::at(512 + 5));
}

// A driver's mistake stops the device, which tells the driver; a reset makes it work again.
TEST_F(VirtioBlkTest, HostileDescriptors) {
  struct Attack {
    const char* name;
    std::function<void()> set_up;
  };
  const std::vector<Attack> attacks = {
      {"a loop",
       [&] { driver.descriptor(0, 0, kHeader, 16, 1, 1), driver.descriptor(0, 1, kData, 16, 1, 0); }},
      {"a next one out of range", [&] { driver.descriptor(0, 0, kHeader, 16, 1, 999); }},
      {"an address out of range", [&] { driver.descriptor(0, 0, 0xfffffffffffff000, 0x2000, 0, 0); }},
      {"an address in the hole", [&] { driver.descriptor(0, 0, 0xe0000000, 16, 0, 0); }},
      {"zero length", [&] { driver.descriptor(0, 0, kHeader, 0, 0, 0); }},
      {"indirect in indirect",
       [&] {
         driver.put(0x70000, u64{0x70000}), driver.put(0x70008, u32{16}), driver.put(0x7000c, u16{4});
         driver.descriptor(0, 0, 0x70000, 16, 4, 0);
       }},
      {"an indirect table of odd size", [&] { driver.descriptor(0, 0, 0x70000, 17, 4, 0); }},
      {"an indirect table as large as memory", [&] { driver.descriptor(0, 0, 0, 0xfffffff0, 4, 0); }},
      {"an indirect table with a next one", [&] { driver.descriptor(0, 0, 0x70000, 16, 5, 1); }},
      {"readable after writable",
       [&] { driver.descriptor(0, 0, kData, 16, 3, 1), driver.descriptor(0, 1, kHeader, 16, 0, 0); }},
      {"no status", [&] { driver.descriptor(0, 0, kHeader, 16, 0, 0); }},
      {"a head out of range",
       [&] { driver.put(VirtioDriver::ring(0) + VirtioDriver::kAvailable + 4, u16{8}); }},
      {"more requests than the ring holds",
       [&] { driver.put(VirtioDriver::ring(0) + VirtioDriver::kAvailable + 2, u16{5000}); }},
  };
  for (const Attack& attack : attacks) {
    SCOPED_TRACE(attack.name);
    for (u64 at = VirtioDriver::kRings; at < VirtioDriver::kRings + 0x4000; at += 8) driver.put(at, u64{0});
    driver.start(1);
    driver.offer_head(0, 0);
    attack.set_up();
    messages.clear();
    driver.notify(0);
    run_until(time, time.now_ + 1'000'000, disk);
    EXPECT_TRUE(driver.broken());
    EXPECT_EQ(driver.used(0), 0);
    EXPECT_THAT(messages, ElementsAre(u64{0xfee00000} << 32 | 0x40)) << "a configuration interrupt";
    EXPECT_EQ(disk.next_event(), kNeverNs);
  }
  for (u64 at = VirtioDriver::kRings; at < VirtioDriver::kRings + 0x4000; at += 8) driver.put(at, u64{0});
  driver.start(1);
  request(0, 0, 512);
  EXPECT_EQ(done(), 0);
}

TEST_F(VirtioBlkTest, RingsOutsideMemory) {
  for (const u64 field : {0x20, 0x28, 0x30}) {
    driver.start(1);
    driver.set_common(0x14, 0, 1);
    driver.set_common(0x14, 3, 1);
    driver.set_common(0x08, 1, 4), driver.set_common(0x0c, 1, 4);
    driver.set_common(0x14, 11, 1);
    for (u64 f = 0x20; f <= 0x30; f += 8)
      driver.set_common(f, f == field ? 0xffffffffffffff00 : 0x10000 + f * 256, 8);
    driver.set_common(0x1c, 1, 2);
    driver.set_common(0x14, 15, 1);
    driver.put(0x10000 + 0x28 * 256 + 2, u16{1});
    driver.notify(0);
    run_until(time, time.now_ + 1'000'000, disk);
    EXPECT_TRUE(driver.broken());
  }
}

TEST_F(VirtioBlkTest, RandomRingsNeverCrash) {
  const char* given = std::getenv("DEJA_SEED");
  const u64 seed = given ? std::strtoull(given, nullptr, 0) : 1;
  SCOPED_TRACE("DEJA_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (unsigned round = 0; round < 2000; ++round) {
    driver.start(1);
    for (u64 i = 0; i < 8; ++i) {
      const u64 address = random() % 4 ? random() % 2_MiB : random();
      driver.descriptor(0, static_cast<u16>(i), address,
                        static_cast<u32>(random() % 3 ? random() % 5000 : random()),
                        static_cast<u16>(random() % 8), static_cast<u16>(random() % 10));
    }
    for (unsigned i = 0; i < random() % 9; ++i) driver.offer_head(0, static_cast<u16>(random() % 9));
    driver.notify(0);
    for (unsigned i = 0; i < 20 && disk.next_event() != kNeverNs; ++i) {
      time.now_ = std::max(time.now_, disk.next_event());
      disk.advance(time.now_);
    }
  }
}

// With event indices a driver is told only of what it asked for.
TEST_F(VirtioBlkTest, EventIndices) {
  driver.start(1, VirtioPci::kVersion1 | VirtioPci::kRingEventIndex);
  const u64 used_event = VirtioDriver::ring(0) + VirtioDriver::kAvailable + 4 + 2 * VirtioDriver::kSize;
  const u64 avail_event = VirtioDriver::ring(0) + VirtioDriver::kUsed + 4 + 8 * VirtioDriver::kSize;
  driver.put(used_event, u16{0});
  request(4, 0, 0);
  EXPECT_EQ(done(), 0);
  EXPECT_EQ(messages.size(), 1u);
  EXPECT_EQ(driver.get<u16>(avail_event), 1) << "the device has seen one request and waits for the next";
  driver.put(used_event, u16{5});
  request(4, 0, 0);
  EXPECT_EQ(done(), 0);
  EXPECT_EQ(messages.size(), 1u) << "not asked for";
}

TEST_F(VirtioBlkTest, WithoutBusMasteringNothingMoves) {
  driver.start(1);
  disk.config_write(4, 2, 2);
  request(0, 0, 512);
  EXPECT_EQ(done(), 0xee);
  EXPECT_EQ(driver.used(0), 0);
}

TEST_F(VirtioTest, LegacyInterruptsWithoutMsix) {
  PatternImage image;
  DiskOverlay overlay{image};
  VirtioBlk disk{"disk", {}, overlay, wiring(), [](const Error&) {}};
  bool level = false;
  disk.connect_intx([&](bool l) { level = l; });
  VirtioDriver driver{disk, *ram};
  driver.start(1);
  unsigned cap = disk.config_read(0x34, 1);
  while (disk.config_read(cap, 1) != 0x11) cap = disk.config_read(cap + 1, 1);
  disk.config_write(cap + 2, 0, 2);  // MSI-X off
  disk.config_write(4, 6, 2);        // INTx on
  driver.put(0x40000, u32{4}), driver.put(0x40004, u32{0}), driver.put(0x40008, u64{0});
  driver.offer(0, 0, {{0x40000, 16, false}, {0x60000, 1, true}});
  driver.notify(0);
  run_until(time, time.now_ + 100'000, disk);
  EXPECT_TRUE(level);
  EXPECT_EQ(disk.bar_read(4, 0x1000, 1), 1u) << "ISR: a queue";
  EXPECT_FALSE(level) << "reading it lowers the line";
}

TEST_F(VirtioTest, MaskedMessagesWait) {
  PatternImage image;
  DiskOverlay overlay{image};
  VirtioBlk disk{"disk", {}, overlay, wiring(), [](const Error&) {}};
  VirtioDriver driver{disk, *ram};
  driver.start(1);
  disk.bar_write(1, 16 + 12, 1, 4);
  driver.put(0x40000, u32{4});
  driver.offer(0, 0, {{0x40000, 16, false}, {0x60000, 1, true}});
  driver.notify(0);
  run_until(time, time.now_ + 100'000, disk);
  EXPECT_TRUE(messages.empty());
  EXPECT_EQ(disk.bar_read(1, 0x800, 8), 2u) << "pending";
  disk.bar_write(1, 16 + 12, 0, 4);
  EXPECT_THAT(messages, ElementsAre(kMessage0));
}

TEST_F(VirtioTest, RngGivesTheStreamOfItsSeed) {
  const auto numbers = [&](std::vector<u8> seed) {
    VirtioRng rng(seed, wiring());
    rng.reset();
    VirtioDriver driver{rng, *ram};
    for (u64 at = VirtioDriver::kRings; at < VirtioDriver::kRings + 0x4000; at += 8) driver.put(at, u64{0});
    driver.start(1);
    driver.offer(0, 0, {{0x50000, 100, true}});
    driver.notify(0);
    run_until(time, time.now_ + 100'000, rng);
    EXPECT_EQ(driver.used_size(0, 0), 100u);
    std::vector<u8> out(100);
    EXPECT_TRUE(ram->read(Gpa(0x50000), out.data(), out.size()));
    return out;
  };
  const auto a = numbers({1, 2, 3});
  EXPECT_EQ(numbers({1, 2, 3}), a);
  EXPECT_NE(numbers({1, 2, 4}), a);
}

// RFC 8439 section 2.3.2.
TEST(ChaCha20, TestVector) {
  ChaChaKey key;
  for (u32 i = 0; i < 8; ++i) key[i] = 0x03020100 + i * 0x04040404;
  const auto block = chacha20_block(key, 1, {0x09000000, 0x4a000000, 0});
  const std::array<u8, 8> expected{0x10, 0xf1, 0xe7, 0xe4, 0xd1, 0x3b, 0x59, 0x15};
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), block.begin()));
}

TEST_F(VirtioTest, ConsoleBothWays) {
  std::string out;
  VirtioConsole console(wiring(), [&](u8 b) { out += static_cast<char>(b); });
  VirtioDriver driver{console, *ram};
  EXPECT_EQ(console.room(), 0u) << "no driver yet";
  driver.start(2);
  EXPECT_EQ(console.room(), VirtioConsole::kBuffer);
  driver.put(0x50000, u32{0x216968});
  driver.offer(1, 0, {{0x50000, 3, false}});
  driver.notify(1);
  run_until(time, time.now_ + 100'000, console);
  EXPECT_EQ(out, "hi!");
  for (const char c : std::string("abcde")) console.receive(static_cast<u8>(c));
  driver.offer(0, 0, {{0x60000, 3, true}});
  driver.offer(0, 1, {{0x60010, 16, true}});
  driver.notify(0);
  run_until(time, time.now_ + 100'000, console);
  EXPECT_EQ(driver.used_size(0, 0), 3u);
  EXPECT_EQ(driver.used_size(0, 1), 2u);
  EXPECT_EQ(driver.get<u8>(0x60011), 'e');
}

TEST_F(VirtioTest, NetBothWays) {
  std::vector<std::string> out;
  VirtioNet nic("nic", {2, 0, 0, 0, 0, 1}, wiring(), [&](std::string_view f) { out.emplace_back(f); });
  VirtioDriver driver{nic, *ram};
  driver.start(2);
  EXPECT_EQ(nic.bar_read(4, 0x2000, 8), 0x0001010000000002u) << "address, and the link is up";
  for (unsigned i = 0; i < 72; ++i) driver.put(0x50000 + i, static_cast<u8>(i < 12 ? 0 : 'a' + i % 26));
  driver.offer(1, 0, {{0x50000, 12, false}, {0x5000c, 60, false}});
  driver.notify(1);
  nic.receive(std::string(100, 'x'));
  driver.offer(0, 0, {{0x60000, 1600, true}});
  driver.notify(0);
  run_until(time, time.now_ + 100'000, nic);
  ASSERT_EQ(out.size(), 1u);
  EXPECT_EQ(out[0].size(), 60u);
  EXPECT_EQ(out[0][0], 'a' + 12);
  EXPECT_EQ(driver.used_size(0, 0), 112u);
  EXPECT_EQ(driver.get<u16>(0x6000a), 1) << "num_buffers";
  EXPECT_EQ(driver.get<u8>(0x6000c), 'x');
  for (unsigned i = 0; i < 100; ++i) nic.receive("frame");
  EXPECT_EQ(nic.room(), 0u) << "the rest is lost";
}

}  // namespace
}  // namespace deja
