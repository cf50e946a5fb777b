// The page walk against another one, written paging mode by paging mode after the tables of the manual (SDM
// vol. 3A 4.3 to 4.7), on random tables.
#include "guest/page_walk.h"

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

namespace deja {
namespace {

constexpr u64 kRamSize = 1_MiB;
constexpr u64 kTables = 256_KiB;  // where the tables are
constexpr unsigned kPhysicalBits = 40;

u64 bits(u64 value, unsigned high, unsigned low) { return value >> low & ((u64{1} << (high - low + 1)) - 1); }

// What the manual says of one access. The entries that are used are kept: A is set in all, D in the last.
struct Manual {
  bool present = false, reserved = false;
  u64 page = 0;  // physical address of the 4 KiB page
  bool r_w = true, u_s = true, xd = false, dirty = false;
  std::vector<u64> entries;
  unsigned leaf_level = 0;
};

class Reference {
 public:
  Reference(const GuestRam& ram, const PagingKey& key) : ram_(ram), key_(key) {}

  Manual walk(u64 linear) {
    if (key_.bits & PagingKey::kLong) {
      four_level(linear);
    } else if (key_.bits & PagingKey::kPae) {
      pae(linear);
    } else {
      two_level(linear);
    }
    return m_;
  }

 private:
  bool nxe() const { return key_.bits & PagingKey::kNx; }

  // False: the walk ends here.
  bool take(u64 address, unsigned size, u64 reserved) {
    entry_ = 0;
    if (address + size <= kRamSize) std::memcpy(&entry_, ram_.host(Gpa(address)), size);
    m_.present = bits(entry_, 0, 0);
    if (!m_.present) return false;
    m_.reserved = entry_ & reserved;
    if (m_.reserved) return false;
    m_.entries.push_back(address);
    m_.r_w &= bits(entry_, 1, 1) == 1;
    m_.u_s &= bits(entry_, 2, 2) == 1;
    m_.xd |= size == 8 && nxe() && bits(entry_, 63, 63);
    m_.dirty = bits(entry_, 6, 6);
    return true;
  }
  bool large() const { return bits(entry_, 7, 7); }
  void map(u64 base, unsigned level) {
    m_.page = base;
    m_.leaf_level = level;
  }
  void reserve(u64 mask) { m_.reserved = entry_ & mask; }

  // Tables 4-14 to 4-20.
  void four_level(u64 linear) {
    u64 reserved = bits(~u64{0}, 51, kPhysicalBits) << kPhysicalBits;
    if (!nxe()) reserved |= u64{1} << 63;
    const auto address = [&] { return bits(entry_, kPhysicalBits - 1, 12) << 12; };
    if (!take(key_.cr3 + bits(linear, 47, 39) * 8, 8, reserved | 0x80)) return;
    if (!take(address() + bits(linear, 38, 30) * 8, 8, reserved)) return;
    if (large()) {
      reserve(bits(~u64{0}, 29, 13) << 13);
      return map((bits(entry_, kPhysicalBits - 1, 30) << 30) + (bits(linear, 29, 12) << 12), 3);
    }
    if (!take(address() + bits(linear, 29, 21) * 8, 8, reserved)) return;
    if (large()) {
      reserve(bits(~u64{0}, 20, 13) << 13);
      return map((bits(entry_, kPhysicalBits - 1, 21) << 21) + (bits(linear, 20, 12) << 12), 2);
    }
    if (!take(address() + bits(linear, 20, 12) * 8, 8, reserved)) return;
    map(address(), 1);
  }

  // Tables 4-8 to 4-11.
  void pae(u64 linear) {
    u64 reserved = bits(~u64{0}, 62, kPhysicalBits) << kPhysicalBits;
    if (!nxe()) reserved |= u64{1} << 63;
    entry_ = key_.pdpte[bits(linear, 31, 30)];
    if (!bits(entry_, 0, 0)) return;
    const auto address = [&] { return bits(entry_, kPhysicalBits - 1, 12) << 12; };
    if (!take(address() + bits(linear, 29, 21) * 8, 8, reserved)) return;
    if (large()) {
      reserve(bits(~u64{0}, 20, 13) << 13);
      return map((bits(entry_, kPhysicalBits - 1, 21) << 21) + (bits(linear, 20, 12) << 12), 2);
    }
    if (!take(address() + bits(linear, 20, 12) * 8, 8, reserved)) return;
    map(address(), 1);
  }

  // Tables 4-4 to 4-6; 4-MByte pages with PSE-36.
  void two_level(u64 linear) {
    if (!take(key_.cr3 + bits(linear, 31, 22) * 4, 4, 0)) return;
    if (large() && (key_.bits & PagingKey::kPse)) {
      reserve(1 << 21);
      return map((bits(entry_, 20, 13) << 32) + (bits(entry_, 31, 22) << 22) + (bits(linear, 21, 12) << 12),
                 2);
    }
    if (!take((bits(entry_, 31, 12) << 12) + bits(linear, 21, 12) * 4, 4, 0)) return;
    map(bits(entry_, 31, 12) << 12, 1);
  }

  const GuestRam& ram_;
  const PagingKey& key_;
  Manual m_;
  u64 entry_ = 0;
};

// 4.6.1: may it be done?
bool has_rights(const Manual& m, u32 key, Access access, bool user, bool smap_closed) {
  const bool wp = key & PagingKey::kWp, smep = key & PagingKey::kSmep, smap = key & PagingKey::kSmap;
  if (user && !m.u_s) return false;
  switch (access) {
    case Access::read:
      return user || !m.u_s || !smap || !smap_closed;
    case Access::write:
      if (user) return m.r_w;
      if (m.u_s && smap && smap_closed) return false;
      return m.r_w || !wp;
    case Access::execute:
      if (!user && m.u_s && smep) return false;
      return !m.xd;
  }
  return false;
}

class PageWalkTest : public testing::Test {
 protected:
  PageWalkTest() : ram_(std::move(GuestRam::create(kRamSize)).value()), before_(kTables), random_(1) {}

  u64 draw(u64 below) { return random_() % below; }
  bool one_in(u64 n) { return draw(n) == 0; }

  // Mostly entries that lead somewhere, with everything that may be wrong with one.
  u64 random_entry(bool wide) {
    u64 entry = (draw(kTables / kPageSize) << 12) | 0x1f | draw(0x20) << 1;
    entry = (entry & ~u64{6}) | (one_in(6) ? 0 : 2) | (one_in(6) ? 0 : 4) | (entry & 0xf9 & ~u64{0xe0}) |
            draw(4) << 5;
    if (one_in(20)) entry &= ~u64{1};
    if (one_in(6)) entry |= 0x80;
    if (one_in(6)) entry |= 0x100 | draw(8) << 9;
    if (one_in(2) && (entry & 0x80)) entry &= ~(wide ? u64{0x1fe000} : u64{0x3fe000});
    if (one_in(2) && (entry & 0x80) && wide) entry &= ~u64{0x3fffe000};
    if (!wide) return entry | (one_in(20) ? draw(u64{1} << 20) << 12 : 0);
    if (one_in(8)) entry |= u64{1} << 63;
    if (one_in(20)) entry |= u64{1} << (20 + draw(43));
    return entry;
  }

  PagingKey fill(bool wide) {
    for (u64 at = 0; at < kTables; at += wide ? 8 : 4) {
      const u64 entry = random_entry(wide);
      std::memcpy(ram_->host(Gpa(at)), &entry, wide ? 8 : 4);
    }
    PagingKey key;
    key.bits = PagingKey::kPaging;
    for (const u32 bit :
         {PagingKey::kWp, PagingKey::kNx, PagingKey::kSmep, PagingKey::kSmap, PagingKey::kPse})
      if (one_in(2)) key.bits |= bit;
    return key;
  }

  void check(const PagingKey& key, unsigned linear_bits) {
    std::memcpy(before_.data(), ram_->host(Gpa(0), kTables), kTables);
    for (int i = 0; i < 400; ++i) {
      const u64 linear = draw(u64{1} << linear_bits);
      const auto access = static_cast<Access>(draw(3));
      const bool user = one_in(2), smap_closed = one_in(2), mark = !one_in(4);
      SCOPED_TRACE(testing::Message() << std::hex << "linear " << linear << " key " << key.bits << " access "
                                      << static_cast<int>(access) << " user " << user);
      const Manual m = Reference(*ram_, key).walk(linear);
      const Walk w = walk_pages(*ram_, key, Gva(linear), access, user, smap_closed, kPhysicalBits, mark);
      const bool rights = m.present && !m.reserved && has_rights(m, key.bits, access, user, smap_closed);
      ASSERT_EQ(w.ok, rights);
      if (rights) {
        expect_mapping(m, w, access, user, key.bits);
        ++mapped_;
      } else {
        expect_error(m, w, access, user, key.bits);
      }
      if (rights && mark) set_marks(m, access == Access::write);
      ASSERT_EQ(std::memcmp(before_.data(), ram_->host(Gpa(0), kTables), kTables), 0);
    }
  }

  static void expect_mapping(const Manual& m, const Walk& w, Access access, bool user, u32 key) {
    EXPECT_EQ(w.page.value, m.page);
    EXPECT_EQ(w.leaf.value, m.entries.back());
    EXPECT_EQ(w.leaf_is_4k, m.leaf_level == 1);
    ASSERT_EQ(w.levels, m.entries.size());
    for (unsigned i = 0; i < w.levels; ++i) EXPECT_EQ(w.entries[i].value, m.entries[i]);
    EXPECT_EQ(w.write_allowed, m.r_w || (!user && !(key & PagingKey::kWp)));
    EXPECT_EQ(w.writable, w.write_allowed && (access == Access::write || m.dirty));
  }

  // 4.7. I/D is told where execution can be forbidden.
  static void expect_error(const Manual& m, const Walk& w, Access access, bool user, u32 key) {
    const bool tells_fetch = (key & PagingKey::kSmep) || ((key & PagingKey::kPae) && (key & PagingKey::kNx));
    const u32 error = (m.present ? 1 : 0) | (access == Access::write ? 2 : 0) | (user ? 4 : 0) |
                      (m.reserved ? 8 : 0) | (access == Access::execute && tells_fetch ? 16 : 0);
    EXPECT_EQ(w.error, error);
  }

  // 4.8.
  void set_marks(const Manual& m, bool write) {
    for (const u64 entry : m.entries) before_[entry] |= 0x20;
    if (write) before_[m.entries.back()] |= 0x40;
  }

  std::unique_ptr<GuestRam> ram_;
  std::vector<u8> before_;
  std::mt19937_64 random_;
  unsigned mapped_ = 0;
};

TEST_F(PageWalkTest, FourLevelPaging) {
  for (int i = 0; i < 60; ++i) {
    PagingKey key = fill(true);
    key.bits |= PagingKey::kLong | PagingKey::kPae;
    key.cr3 = draw(kTables / kPageSize) << 12;
    check(key, 48);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(mapped_, 2000u);
}

TEST_F(PageWalkTest, PaePaging) {
  for (int i = 0; i < 60; ++i) {
    PagingKey key = fill(true);
    key.bits |= PagingKey::kPae;
    for (u64& pdpte : key.pdpte) pdpte = draw(kTables / kPageSize) << 12 | (one_in(8) ? 0 : 1);
    check(key, 32);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(mapped_, 2000u);
}

TEST_F(PageWalkTest, ThirtyTwoBitPaging) {
  for (int i = 0; i < 60; ++i) {
    PagingKey key = fill(false);
    key.cr3 = draw(kTables / kPageSize) << 12;
    check(key, 32);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(mapped_, 2000u);
}

// PSE-36 has 40 address bits; a CPU with fewer reserves those above.
TEST_F(PageWalkTest, AFourMegabytePageBeyondThePhysicalAddressesIsReserved) {
  PagingKey key;
  key.bits = PagingKey::kPaging | PagingKey::kPse;
  const u32 entry = 0x87 | 1 << 20;  // address bit 39
  std::memcpy(ram_->host(Gpa(0)), &entry, 4);
  EXPECT_EQ(walk_pages(*ram_, key, Gva(0), Access::read, true, true, 39).error, 1u | 4 | 8);
  EXPECT_TRUE(walk_pages(*ram_, key, Gva(0), Access::read, true, true, 40).ok);
}

TEST_F(PageWalkTest, WithoutPagingEveryAddressIsItsOwn) {
  const Walk w = walk_pages(*ram_, PagingKey{}, Gva(0x1'2345'6789), Access::write, true, true, kPhysicalBits);
  EXPECT_TRUE(w.ok && w.writable && w.write_allowed);
  EXPECT_EQ(w.page.value, 0x23456000u);
}

TEST_F(PageWalkTest, APeekMarksNothingAndAsksForNoRights) {
  PagingKey key;
  key.bits = PagingKey::kPaging | PagingKey::kPae | PagingKey::kLong | PagingKey::kSmap | PagingKey::kSmep;
  key.cr3 = 0x1000;
  for (const u64 table : {0x1000, 0x2000, 0x3000, 0x4000}) {
    const u64 entry = (table + 0x1000) | 1;
    std::memcpy(ram_->host(Gpa(table)), &entry, 8);
  }
  std::memcpy(before_.data(), ram_->host(Gpa(0), kTables), kTables);
  const std::optional<Gpa> there = peek_translation(*ram_, key, Gva(0x123));
  ASSERT_TRUE(there);
  EXPECT_EQ(there->value, 0x5123u);
  EXPECT_FALSE(peek_translation(*ram_, key, Gva(0x1123)));
  EXPECT_FALSE(peek_translation(*ram_, key, Gva(u64{1} << 48)));
  EXPECT_EQ(std::memcmp(before_.data(), ram_->host(Gpa(0), kTables), kTables), 0);
}

TEST(PagingKeyTest, HoldsWhatTheModeLooksAt) {
  CpuState s{};
  s.cr3 = 0xffff'ffff'ffff'ffff;
  for (u64& pdpte : s.pdpte) pdpte = 7;
  s.cr4 = cr4bit::PSE | cr4bit::SMEP;
  EXPECT_EQ(paging_key(s), PagingKey{}) << "paging is off";
  s.cr0 = cr0bit::PG;
  PagingKey key = paging_key(s);
  EXPECT_EQ(key.bits, u32{PagingKey::kPaging | PagingKey::kPse | PagingKey::kSmep});
  EXPECT_EQ(key.cr3, 0xfffff000u);
  EXPECT_EQ(key.pdpte[0], 0u);
  s.cr4 |= cr4bit::PAE | cr4bit::SMAP;
  s.cr0 |= cr0bit::WP;
  key = paging_key(s);
  EXPECT_EQ(key.bits,
            u32{PagingKey::kPaging | PagingKey::kPae | PagingKey::kWp | PagingKey::kSmep | PagingKey::kSmap});
  EXPECT_EQ(key.cr3, 0u);
  EXPECT_EQ(key.pdpte[3], 7u);
  s.efer = eferbit::LMA | eferbit::NXE;
  key = paging_key(s);
  EXPECT_EQ(key.bits, u32{PagingKey::kPaging | PagingKey::kPae | PagingKey::kLong | PagingKey::kWp |
                          PagingKey::kNx | PagingKey::kSmep | PagingKey::kSmap});
  EXPECT_EQ(key.cr3, 0x000f'ffff'ffff'f000u);
  EXPECT_EQ(key.pdpte[0], 0u);
}

}  // namespace
}  // namespace deja
