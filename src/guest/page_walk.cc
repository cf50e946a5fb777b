#include "guest/page_walk.h"

#include <cstring>

#include "guest/canonical.h"

namespace deja {
namespace {

constexpr u64 kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 0x20, kDirty = 0x40, kLarge = 0x80,
              kNoExecute = u64{1} << 63;

u64 load_entry(const GuestRam& ram, Gpa at, unsigned size) {
  u64 value = 0;
  // A table outside RAM reads as not present.
  if (!ram.read(at, &value, size)) return 0;
  return value;
}

void set_bits(GuestRam& ram, Gpa at, u64 bits) {
  if (!ram.writable(at)) return;
  u8* p = ram.host(at);
  u8 low;
  std::memcpy(&low, p, 1);
  if ((low & bits) == bits) return;
  *p = static_cast<u8>(low | bits);  // A and D are in the low byte
  ram.walk_marked(at);
}

// How the tables of a paging mode are laid out (SDM vol. 3A 4.3 to 4.5).
struct TableFormat {
  bool pae, four_levels, pse;
  unsigned entry_size, index_bits;
  u64 address_mask;
  u64 reserved = 0;  // bits of every entry

  TableFormat(const PagingKey& key, unsigned physical_bits)
      : pae(key.bits & PagingKey::kPae),
        four_levels(key.bits & PagingKey::kLong),
        pse(key.bits & PagingKey::kPse),
        entry_size(pae ? 8 : 4),
        index_bits(pae ? 9 : 10),
        address_mask(pae ? ((u64{1} << physical_bits) - 1) & ~u64{0xfff} : 0xfffff000) {
    if (!pae) return;
    // Address bits above MAXPHYADDR up to bit 51, NX when not enabled; outside long mode also 52..62.
    reserved = 0x000fffffffffffff & ~((u64{1} << physical_bits) - 1);
    if (!(key.bits & PagingKey::kNx)) reserved |= kNoExecute;
    if (!four_levels) reserved |= 0x7ff0000000000000;
  }
  unsigned shift(unsigned level) const { return kPageShift + index_bits * (level - 1); }
  bool may_be_large(unsigned level) const {
    return pae ? level == 2 || (level == 3 && four_levels) : level == 2 && pse;
  }
  // The first byte of a large page; nothing when its entry has reserved bits set.
  std::optional<u64> large_page(u64 entry, unsigned page_bits, unsigned physical_bits) const {
    if (pae) {
      // Bits between the page size and bit 13 are reserved, bit 12 is PAT.
      const u64 in_page = (u64{1} << page_bits) - 1;
      if (entry & in_page & ~u64{0x1fff}) return std::nullopt;
      return entry & address_mask & ~in_page;
    }
    // PSE-36: bits 13..20 are address bits 32..39, bit 21 is reserved.
    const u64 base = (entry & 0xffc00000) | (entry >> 13 & 0xff) << 32;
    if ((entry & (1 << 21)) || base >> physical_bits) return std::nullopt;
    return base;
  }
};

// Bits of the error code of a page fault (SDM vol. 3A 4.7).
constexpr u32 kErrorPresent = 1, kErrorWrite = 2, kErrorUser = 4, kErrorReserved = 8, kErrorFetch = 16;

// What all entries of a walk say together.
struct Grants {
  bool write = true, user = true, no_execute = false;
  void add(u64 entry, const PagingKey& key) {
    write &= (entry & kWritable) != 0;
    user &= (entry & kUser) != 0;
    no_execute |= (key.bits & PagingKey::kNx) && (entry & kNoExecute);
  }
};

// Rights (SDM vol. 3A 4.6). Sets w->write_allowed; false: the access is not.
bool allowed(const PagingKey& key, const Grants& g, Access access, bool user, bool smap_closed, Walk* w) {
  w->write_allowed = g.write || (!user && !(key.bits & PagingKey::kWp));
  if (user) {
    if (!g.user) return false;
  } else if (g.user) {
    if (access == Access::execute ? key.bits & PagingKey::kSmep
                                  : smap_closed && (key.bits & PagingKey::kSmap))
      return false;
  }
  if (access == Access::write && !w->write_allowed) return false;
  return access != Access::execute || !g.no_execute;
}

u32 error_base(const PagingKey& key, Access access, bool user) {
  const bool told =
      (key.bits & PagingKey::kSmep) || ((key.bits & PagingKey::kPae) && (key.bits & PagingKey::kNx));
  return (access == Access::write ? kErrorWrite : 0) | (user ? kErrorUser : 0) |
         (access == Access::execute && told ? kErrorFetch : 0);
}

}  // namespace

PagingKey paging_key(const CpuState& s) {
  PagingKey k;
  if (!(s.cr0 & cr0bit::PG)) return k;
  k.bits = PagingKey::kPaging;
  if (s.cr0 & cr0bit::WP) k.bits |= PagingKey::kWp;
  if (s.cr4 & cr4bit::SMEP) k.bits |= PagingKey::kSmep;
  if (s.cr4 & cr4bit::SMAP) k.bits |= PagingKey::kSmap;
  if (s.efer & eferbit::NXE) k.bits |= PagingKey::kNx;
  if (s.efer & eferbit::LMA) {
    k.bits |= PagingKey::kLong | PagingKey::kPae;
    k.cr3 = s.cr3 & 0x000ffffffffff000;
  } else if (s.cr4 & cr4bit::PAE) {
    k.bits |= PagingKey::kPae;
    for (unsigned i = 0; i < 4; ++i) k.pdpte[i] = s.pdpte[i];
  } else {
    if (s.cr4 & cr4bit::PSE) k.bits |= PagingKey::kPse;
    k.cr3 = s.cr3 & 0xfffff000;
  }
  return k;
}

Walk walk_pages(GuestRam& ram, const PagingKey& key, Gva linear, Access access, bool user, bool smap_closed,
                unsigned physical_bits, bool mark) {
  Walk w;
  if (!(key.bits & PagingKey::kPaging)) {
    w.ok = w.writable = w.write_allowed = true;
    w.page = ram.resolve(Gpa(linear.value & 0xfffff000));
    return w;
  }
  const TableFormat format(key, physical_bits);
  const auto fail = [&](u32 bits) {
    w.error = error_base(key, access, user) | bits;
    return w;
  };
  unsigned level = format.four_levels ? 4 : 2;  // levels left, the leaf table being 1
  u64 table = key.cr3;
  if (format.pae && !format.four_levels) {
    const u64 pdpte = key.pdpte[linear.value >> 30 & 3];
    if (!(pdpte & kPresent)) return fail(0);
    table = pdpte & format.address_mask;
  }
  Grants grants;
  u64 entry = 0;
  for (;; --level) {
    const u64 index = linear.value >> format.shift(level) & ((u64{1} << format.index_bits) - 1);
    const Gpa at = ram.resolve(Gpa(table + index * format.entry_size));
    entry = load_entry(ram, at, format.entry_size);
    if (!(entry & kPresent)) return fail(0);
    if (entry & format.reserved) return fail(kErrorPresent | kErrorReserved);
    w.entries[w.levels++] = at;
    grants.add(entry, key);
    if (level == 4 && (entry & kLarge)) return fail(kErrorPresent | kErrorReserved);
    if (level == 1 || (format.may_be_large(level) && (entry & kLarge))) break;
    table = entry & format.address_mask;
  }
  const unsigned page_bits = format.shift(level);
  const std::optional<u64> base =
      level == 1 ? entry & format.address_mask : format.large_page(entry, page_bits, physical_bits);
  if (!base) return fail(kErrorPresent | kErrorReserved);
  w.page = ram.resolve(Gpa(*base + (linear.value & ((u64{1} << page_bits) - 1) & ~(kPageSize - 1))));
  if (!allowed(key, grants, access, user, smap_closed, &w)) return fail(kErrorPresent);
  for (unsigned i = 0; mark && i < w.levels; ++i) {
    const bool leaf = i + 1u == w.levels;
    set_bits(ram, w.entries[i], kAccessed | (leaf && access == Access::write ? kDirty : 0));
  }
  w.leaf = w.entries[w.levels - 1u];
  w.leaf_is_4k = level == 1;
  w.writable = w.write_allowed && (access == Access::write || (entry & kDirty));
  w.ok = true;
  return w;
}

std::optional<Gpa> peek_translation(const GuestRam& ram, const PagingKey& key, Gva linear) {
  // A walk looks at so many bits alone. Accesses of the guest fault before; a debugger's do not.
  if ((key.bits & PagingKey::kLong) && !is_canonical(linear.value, kLinearBits)) return std::nullopt;
  constexpr unsigned kArchitecturalBits = 52;
  // Without marks a walk only reads.
  const Walk w = walk_pages(const_cast<GuestRam&>(ram), key, linear, Access::read, false, false,
                            kArchitecturalBits, false);
  if (!w.ok) return std::nullopt;
  return w.page + linear.offset();
}

}  // namespace deja
