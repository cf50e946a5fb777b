// Absent pages: whoever looks finds what their source has, and the digest is that of the content.
#include "guest/ram.h"

#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <random>

namespace deja {
namespace {

constexpr u32 kFrames = 256;

Gpa address_of(u32 frame) { return Gpa(u64{frame} << kPageShift); }

class AbsentPages : public testing::Test, protected PageSource {
 protected:
  AbsentPages() : ram_(std::move(GuestRam::create(kFrames * kPageSize)).value()) { ram_->set_source(this); }

  void load(u64 frame, u8* page) override {
    ++loads_;
    std::memset(page, content_.at(static_cast<u32>(frame)), kPageSize);
  }
  void make_absent(std::vector<u32> frames, u8 first) {
    for (const u32 frame : frames) content_[frame] = first++;
    ram_->make_absent(frames);
  }
  // The digest of a machine that holds the same without anything absent.
  u64 true_digest() {
    auto other = std::move(GuestRam::create(kFrames * kPageSize)).value();
    std::vector<u8> page(kPageSize);
    for (u32 frame = 0; frame < kFrames; ++frame) {
      if (ram_->is_absent(frame))
        std::memset(page.data(), content_[frame], kPageSize);
      else
        std::memcpy(page.data(), ram_->host(address_of(frame)), kPageSize);
      other->write(address_of(frame), page.data(), kPageSize);
    }
    return other->digest();
  }

  std::unique_ptr<GuestRam> ram_;
  std::map<u32, u8> content_;
  unsigned loads_ = 0;
};

TEST_F(AbsentPages, AreLoadedOnceBySomebodyWhoLooks) {
  make_absent({3, 4, 9, 10}, 0x30);
  EXPECT_EQ(*ram_->host(address_of(3) + 17), 0x30);
  u8 bytes[8];
  ASSERT_TRUE(ram_->read(Gpa(address_of(5).value - 4), bytes, 8));
  EXPECT_EQ(bytes[0], 0x31);
  EXPECT_EQ(bytes[7], 0);
  EXPECT_EQ(loads_, 2u);
  EXPECT_EQ(ram_->host(address_of(8), 3 * kPageSize)[kPageSize], 0x32);
  EXPECT_EQ(ram_->host(address_of(9))[kPageSize], 0x33);
  EXPECT_EQ(loads_, 4u);
}

TEST_F(AbsentPages, AreLoadedBeforeAWriteToAPart) {
  make_absent({3}, 0x30);
  ASSERT_TRUE(ram_->write(address_of(3) + 100, "x", 1));
  EXPECT_EQ(*ram_->host(address_of(3) + 100), 'x');
  EXPECT_EQ(*ram_->host(address_of(3) + 101), 0x30);
}

TEST_F(AbsentPages, CountAsWritten) {
  WriteSet set(ram_->frames());
  ram_->attach(&set);
  make_absent({3, 7}, 1);
  EXPECT_EQ(set.frames(), (std::vector<u32>{3, 7}));
  ram_->detach(&set);
}

TEST_F(AbsentPages, NeedNotBeLoadedForADigestThatIsKnown) {
  ram_->write(address_of(1), "one", 3);
  make_absent({3, 4, 5}, 0x30);
  ram_->adopt_digest(true_digest());
  EXPECT_EQ(ram_->digest(), true_digest());
  EXPECT_FALSE(ram_->digest_needs_absent());
  ram_->write(address_of(4), "four", 4);
  ram_->write(address_of(1), "eins", 4);
  EXPECT_EQ(ram_->digest(), true_digest());
  EXPECT_EQ(loads_, 1u);
  EXPECT_EQ(ram_->digest(), ram_->digest_from_scratch());
  EXPECT_EQ(loads_, 3u);
}

TEST_F(AbsentPages, KeepTheDigestRightWhateverComesAfterWhat) {
  constexpr u32 kSeed = 1;
  std::mt19937 random(kSeed);
  for (int i = 0; i < 400; ++i) {
    const u32 frame = random() % kFrames;
    switch (random() % 5) {
      case 0:
      case 1: {
        const bool known = random() % 2;
        if (!known) ram_->hash_absent_later();
        std::vector<u32> frames;
        for (u32 f = frame; f < kFrames && f < frame + 40; f += 1 + random() % 3) frames.push_back(f);
        make_absent(frames, static_cast<u8>(random()));
        if (known) ram_->adopt_digest(true_digest());
        break;
      }
      case 2:
        ram_->write(address_of(frame) + random() % 4000, &i, 4);
        break;
      case 3:
        (void)ram_->host(address_of(frame));
        break;
      case 4:
        ASSERT_EQ(ram_->digest(), true_digest()) << "seed " << kSeed << ", at " << i;
        break;
    }
  }
  const u64 digest = ram_->digest();
  EXPECT_EQ(ram_->digest_from_scratch(), digest);
}

}  // namespace
}  // namespace deja
