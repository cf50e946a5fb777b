// Address translation by the guest's page tables (SDM vol. 3A chapter 4).
#pragma once

#include <optional>

#include "guest/cpu_state.h"
#include "guest/ram.h"

namespace deja {

enum class Access : u8 { read, write, execute };

// The paging state that a translation depends on besides the tables themselves: the key of an address space.
struct PagingKey {
  u64 cr3 = 0;        // physical address of the top table
  u64 pdpte[4] = {};  // PAE paging only
  u32 bits = 0;
  enum : u32 { kPaging = 1, kPae = 2, kLong = 4, kPse = 8, kWp = 16, kNx = 32, kSmep = 64, kSmap = 128 };
  bool operator==(const PagingKey&) const = default;
};
PagingKey paging_key(const CpuState& s);

struct Walk {
  bool ok = false;
  u32 error = 0;               // page-fault error code when !ok
  Gpa page;                    // physical 4 KiB page
  bool writable = false;       // a write by the same view would succeed, and D is set already
  bool write_allowed = false;  // a write would succeed (D perhaps still clear)
  Gpa leaf;                    // the paging-structure entry that maps the page; 0 without paging
  bool leaf_is_4k = false;
  u8 levels = 0;  // entries used, top first, the leaf included
  Gpa entries[4];
};

// Translates `linear` for an access with the rights of `view`; on success sets A (and D for a write) bits in
// RAM. `supervisor_implicit`: SMAP forbids user pages whatever AC is. `mark` false: only looks, and leaves
// the tables as they are.
Walk walk_pages(GuestRam& ram, const PagingKey& key, Gva linear, Access access, bool user, bool smap_closed,
                unsigned physical_bits, bool mark = true);

// Where `linear` is mapped to, whoever may access it; nothing when it is not. Changes nothing.
std::optional<Gpa> peek_translation(const GuestRam& ram, const PagingKey& key, Gva linear);

}  // namespace deja
