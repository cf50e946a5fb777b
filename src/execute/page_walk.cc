#include "execute/page_walk.h"

#include <cstring>

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
  const bool pae = key.bits & PagingKey::kPae;
  const bool lng = key.bits & PagingKey::kLong;
  const unsigned entry_size = pae ? 8 : 4;
  const unsigned index_bits = pae ? 9 : 10;
  const bool nx_on = key.bits & PagingKey::kNx;
  const u64 address_mask = pae ? ((u64{1} << physical_bits) - 1) & ~u64{0xfff} : 0xfffff000;
  // Reserved: address bits above MAXPHYADDR up to bit 51, NX when not enabled; PAE outside long mode
  // also 52..62.
  u64 reserved = 0;
  if (pae) {
    reserved = 0x000fffffffffffff & ~((u64{1} << physical_bits) - 1);
    if (!nx_on) reserved |= kNoExecute;
    if (!lng) reserved |= 0x7ff0000000000000;
  }
  const u32 error_base = (access == Access::write ? 2u : 0u) | (user ? 4u : 0u) |
                         (access == Access::execute && pae && (nx_on || (key.bits & PagingKey::kSmep)) ? 16u
                          : access == Access::execute && (key.bits & PagingKey::kSmep)                 ? 16u
                                                                                                       : 0u);
  const auto fail = [&](u32 bits) {
    w.error = error_base | bits;
    return w;
  };

  unsigned level = lng ? 4 : 2;  // levels left, the leaf table being 1
  u64 table = key.cr3;
  if (pae && !lng) {
    const u64 pdpte = key.pdpte[linear.value >> 30 & 3];
    if (!(pdpte & kPresent)) return fail(0);
    table = pdpte & address_mask;
  }
  bool can_write = true, can_user = true, no_execute = false;
  u64 entry = 0;
  unsigned page_bits = kPageShift;
  while (true) {
    const unsigned shift = kPageShift + index_bits * (level - 1);
    const u64 index = linear.value >> shift & ((u64{1} << index_bits) - 1);
    const Gpa at = ram.resolve(Gpa(table + index * entry_size));
    entry = load_entry(ram, at, entry_size);
    if (!(entry & kPresent)) return fail(0);
    if (entry & reserved) return fail(1 | 8);
    w.entries[w.levels++] = at;
    can_write &= (entry & kWritable) != 0;
    can_user &= (entry & kUser) != 0;
    no_execute |= nx_on && (entry & kNoExecute);
    const bool may_be_large =
        pae ? (level == 2 || (level == 3 && lng)) : (level == 2 && (key.bits & PagingKey::kPse));
    if (level == 4 && (entry & kLarge)) return fail(1 | 8);
    if (level == 1 || (may_be_large && (entry & kLarge))) {
      page_bits = shift;
      break;
    }
    table = entry & address_mask;
    --level;
  }
  u64 base;
  if (page_bits == kPageShift) {
    base = entry & address_mask;
  } else if (pae) {
    // Bits between the page size and bit 13 are reserved, bit 12 is PAT.
    const u64 must_be_zero = ((u64{1} << page_bits) - 1) & ~u64{0x1fff};
    if (entry & must_be_zero) return fail(1 | 8);
    base = entry & address_mask & ~((u64{1} << page_bits) - 1);
  } else {
    // PSE-36: bits 13..20 are address bits 32..39, bit 21 is reserved.
    if (entry & (1 << 21)) return fail(1 | 8);
    base = (entry & 0xffc00000) | (entry >> 13 & 0xff) << 32;
    if (base >> physical_bits) return fail(1 | 8);
  }
  w.page = ram.resolve(Gpa(base + (linear.value & ((u64{1} << page_bits) - 1) & ~(kPageSize - 1))));

  // Rights (SDM vol. 3A 4.6).
  const bool wp = key.bits & PagingKey::kWp;
  if (user) {
    if (!can_user) return fail(1);
    w.write_allowed = can_write;
  } else {
    if (can_user) {
      if (access == Access::execute) {
        if (key.bits & PagingKey::kSmep) return fail(1);
      } else if (smap_closed && (key.bits & PagingKey::kSmap)) {
        return fail(1);
      }
    }
    w.write_allowed = can_write || !wp;
  }
  if (access == Access::write && !w.write_allowed) return fail(1);
  if (access == Access::execute && no_execute) return fail(1);

  for (unsigned i = 0; mark && i < w.levels; ++i) {
    const bool leaf = i + 1u == w.levels;
    set_bits(ram, w.entries[i], kAccessed | (leaf && access == Access::write ? kDirty : 0));
  }
  w.leaf = w.entries[w.levels - 1u];
  w.leaf_is_4k = page_bits == kPageShift;
  w.writable = w.write_allowed && (access == Access::write || (entry & kDirty));
  w.ok = true;
  return w;
}

std::optional<Gpa> peek_translation(GuestRam& ram, const PagingKey& key, Gva linear) {
  // A walk looks at 48 bits alone. Accesses of the guest fault before; a debugger's do not.
  if ((key.bits & PagingKey::kLong) && sign_extend(linear.value, 48) != linear.value) return std::nullopt;
  constexpr unsigned kArchitecturalBits = 52;
  const Walk w = walk_pages(ram, key, linear, Access::read, false, false, kArchitecturalBits, false);
  if (!w.ok) return std::nullopt;
  return w.page + linear.offset();
}

}  // namespace deja
