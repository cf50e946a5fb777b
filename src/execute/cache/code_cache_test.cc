#include "execute/cache/code_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <vector>

namespace deja {
namespace {

constexpr BlockMode kUser64{BlockMode::kUser | BlockMode::kCode64 | BlockMode::kFlatCode |
                            BlockMode::kFlatData | BlockMode::kFlatFsGs | BlockMode::kStackBig |
                            BlockMode::kSse};

// A cache of two regions. What is translated is looked at, and not run.
class CodeCacheTest : public testing::Test {
 protected:
  CodeCacheTest() : ram_(std::move(*GuestRam::create(16_MiB))), cache_(*ram_, 512_KiB) {
    EXPECT_TRUE(cache_.init().ok());
    cache_.keep(64, cache_.exec_base());
    translator_ = std::make_unique<Translator>(cache_.store(), targets_of(cache_), TranslateOptions{});
  }

  static CodeTargets targets_of(const CodeCache& cache) {
    CodeTargets targets;
    targets.context = reinterpret_cast<u64>(cache.context());
    targets.cache_exec = cache.exec_base();
    targets.probe_base = cache.probe_base();
    targets.page_probe = 0x10000;
    targets.dispatch = targets.link = targets.mem_slow = cache.exec_base();
    return targets;
  }

  // The block at `at`: jumps over `skip` bytes.
  BlockId make(Gpa at, u8 skip = 0) {
    return make(at, {0x48, 0x8b, 0x03, 0xeb, skip});
  }  // mov rax, [rbx]; jmp
  BlockId make(Gpa at, std::initializer_list<u8> code) {
    std::copy(code.begin(), code.end(), ram_->host(at));
    const TranslateInput input{at, kUser64, ram_->host(at), static_cast<unsigned>(code.size()), kNoPage, {}};
    BlockId id = kNone;
    if (translator_->translate(input, cache_.space(), &id) == TranslateStatus::cache_full) {
      evicted_ = cache_.next_region();
      ++evictions_;
      EXPECT_EQ(translator_->translate(input, cache_.space(), &id), TranslateStatus::ok);
    }
    cache_.take(cache_.block(id));
    cache_.add(id);
    ram_->flags(at.frame()) |= GuestRam::kCode;
    return id;
  }
  u32 link_of(BlockId id) {
    const auto& links = cache_.store().link_sites.in(id >> kRegionShift);
    for (u32 k = 0; k < links.size(); ++k)
      if (links[k].block == id) return (id >> kRegionShift) << kRegionShift | k;
    return kNone;
  }
  // Where the jump of a link site leads: an offset in the cache.
  u32 destination(u32 link) {
    const LinkSite& l = cache_.store().link_sites[link];
    u32 displacement;
    std::memcpy(&displacement, cache_.write_base() + l.patch, 4);
    return l.patch + 4 + displacement;
  }
  // Fills the cache until `count` regions have been emptied.
  void fill(unsigned count) {
    for (; evictions_ < count; next_ = next_ + 64) make(next_);
  }

  std::unique_ptr<GuestRam> ram_;
  CodeCache cache_;
  std::unique_ptr<Translator> translator_;
  CodeCache::Evicted evicted_{};
  unsigned evictions_ = 0;
  Gpa next_{0x100000};
};

TEST_F(CodeCacheTest, FindsEachBlockByAddressAndMode) {
  std::vector<BlockId> made;
  for (u64 k = 0; k < 1000; ++k) made.push_back(make(Gpa(0x1000 + 64 * k)));
  for (u64 k = 0; k < made.size(); ++k) EXPECT_EQ(cache_.find(Gpa(0x1000 + 64 * k), kUser64), made[k]);
  EXPECT_EQ(cache_.find(Gpa(0x1000), BlockMode{}), kNone);
  for (u64 k = 0; k < made.size(); k += 3) cache_.remove(made[k]);
  for (u64 k = 0; k < made.size(); ++k)
    EXPECT_EQ(cache_.find(Gpa(0x1000 + 64 * k), kUser64), k % 3 ? made[k] : kNone);
}

TEST_F(CodeCacheTest, EmptiesOneRegionAtATime) {
  const BlockId first = make(Gpa(0x1000));
  fill(1);  // goes on to the second region, which was empty
  EXPECT_EQ(evicted_.blocks, 0u);
  const Gpa survivor(next_.value - 64);
  const BlockId kept = cache_.find(survivor, kUser64);
  EXPECT_EQ(cache_.find(Gpa(0x1000), kUser64), first);
  EXPECT_TRUE(ram_->flags(1) & GuestRam::kCode);
  fill(2);
  EXPECT_GT(evicted_.blocks, 500u);
  EXPECT_EQ(cache_.find(Gpa(0x1000), kUser64), kNone);
  EXPECT_FALSE(ram_->flags(1) & GuestRam::kCode);
  EXPECT_EQ(cache_.find(survivor, kUser64), kept);
  EXPECT_GE(cache_.exec_base() + cache_.block(kept).far_entry, evicted_.end);
}

TEST_F(CodeCacheTest, UndoesLinksIntoARegionThatIsEmptied) {
  const BlockId target = make(Gpa(0x1010));
  fill(1);
  const u32 link = link_of(make(Gpa(0x1000), 0x0b));
  cache_.set_link(link, target);
  EXPECT_EQ(destination(link), cache_.block(target).near_entry);
  fill(2);
  EXPECT_EQ(cache_.store().link_sites[link].linked, kNone);
  EXPECT_EQ(destination(link), cache_.store().link_sites[link].stub);
}

TEST_F(CodeCacheTest, ForgetsLinksOutOfARegionThatIsEmptied) {
  const u32 link = link_of(make(Gpa(0x1000), 0x0b));
  fill(1);
  const BlockId target = make(Gpa(0x1010));
  cache_.set_link(link, target);
  fill(2);
  EXPECT_EQ(cache_.block(target).incoming, kNone);
}

TEST_F(CodeCacheTest, LocatesMainCodeAndCopiesMadeLater) {
  const BlockId id = make(Gpa(0x1000));
  const u32 site = 0;
  ASSERT_EQ(cache_.store().mem_sites[site].block, id);
  cache_.make_special_copies(site, *translator_);
  const MemSite& s = cache_.store().mem_sites[site];
  ASSERT_NE(s.special, 0u);
  BlockId found = kNone;
  unsigned insn = 9;
  EXPECT_TRUE(cache_.locate(cache_.exec_base() + s.special, &found, &insn));
  EXPECT_EQ(found, id);
  EXPECT_EQ(insn, 0u);
  EXPECT_TRUE(cache_.locate(cache_.exec_base() + s.resume, &found, &insn));
  EXPECT_EQ(insn, 1u);  // the jump
  EXPECT_FALSE(cache_.locate(cache_.exec_base() + cache_.block(id).end + 64, &found, &insn));
}

TEST_F(CodeCacheTest, MakesCopiesElsewhereWhenARegionHasNoRoom) {
  // jz to the next instruction, three times: much cold code; push [rbx]: two accesses
  for (; evictions_ < 1; next_ = next_ + 64) make(next_, {0x74, 0, 0x74, 0, 0x74, 0, 0xff, 0x33});
  // For all of the first region, until its cold part is full.
  const u32 sites = static_cast<u32>(cache_.store().mem_sites.in(0).size());
  const u32 cold = cache_.store().blocks.in(0).front().cold_begin;
  unsigned elsewhere = 0;
  for (u32 site = 0; site < sites; ++site) {
    cache_.make_special_copies(site, *translator_);
    if (cache_.store().mem_sites[site].special >= cold) continue;
    ++elsewhere;
    BlockId found = kNone;
    unsigned insn = 9;
    EXPECT_TRUE(cache_.locate(cache_.exec_base() + cache_.store().mem_sites[site].special, &found, &insn));
    EXPECT_EQ(found, cache_.store().mem_sites[site].block);
  }
  EXPECT_GT(elsewhere, 0u);
}

// 64 of them take 960 bytes of the guest's code and less than 60 of the host's.
TEST_F(CodeCacheTest, LongNopsDoNotRunOutOfNumbersOfARegion) {
  CodeCache cache(*ram_, 64_MiB);
  ASSERT_TRUE(cache.init().ok());
  Translator translator(cache.store(), targets_of(cache), TranslateOptions{});
  constexpr u8 kNop[15] = {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84};
  for (u64 i = 0; i < kPageSize / sizeof kNop; ++i)
    std::copy(kNop, kNop + sizeof kNop, ram_->host(Gpa(0x100000 + i * sizeof kNop)));
  const TranslateInput input{Gpa(0x100000), kUser64, ram_->host(Gpa(0x100000)), kPageSize, kNoPage, {}};
  BlockId id = kNone;
  while (translator.translate(input, cache.space(), &id) == TranslateStatus::ok) {
    const Block& b = cache.block(id);
    ASSERT_EQ(b.count, 64);
    ASSERT_EQ(b.first_byte >> kRegionShift, id >> kRegionShift);
    cache.take(b);
  }
  EXPECT_EQ(id >> kRegionShift, 0u);
}

}  // namespace
}  // namespace deja
