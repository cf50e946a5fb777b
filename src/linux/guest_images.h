// The programs and libraries that a guest has mapped, as its page tables show them.
#pragma once

#include <string>
#include <vector>

#include "timeline/guest_view.h"

namespace deja {

// A program or library that is mapped in an address space, recognised by its ELF header.
struct GuestImage {
  u64 base = 0;  // where its first segment is
  bool fixed_address = false;
  u64 lowest = 0;        // where it was linked
  std::string build_id;  // hexadecimal; empty: none, or its page is not there
};
// Those in the half of an address space that is a process's.
std::vector<GuestImage> guest_images(const GuestView& memory);

}  // namespace deja
