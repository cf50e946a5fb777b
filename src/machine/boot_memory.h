// Writing guest RAM before the guest runs.
#pragma once

#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include "base/result.h"
#include "base/types.h"
#include "guest/ram.h"

namespace deja {

// Appends a little-endian integer or packed struct to a table under construction.
template <class T>
requires(!std::is_pointer_v<T> && std::is_trivially_copyable_v<T>) void append(std::vector<u8>& out,
                                                                               T value) {
  const auto* p = reinterpret_cast<const u8*>(&value);
  out.insert(out.end(), p, p + sizeof value);
}

// Is [start, start + size) usable RAM from 1 MiB up? If not, the error says how much RAM the machine has.
Status check_loadable(const GuestRam& ram, u64 start, u64 size);

// The caller has made sure that the range is RAM.
void write_boot(GuestRam& ram, u64 address, std::span<const u8> data);
// Leaves pages that are zero already untouched, so that they cost no host memory.
void zero_boot(GuestRam& ram, u64 address, u64 size);
template <class T>
requires(!std::is_pointer_v<T> && std::is_trivially_copyable_v<T>) void store_boot(GuestRam& ram, u64 address,
                                                                                   T value) {
  write_boot(ram, address, {reinterpret_cast<const u8*>(&value), sizeof value});
}

// The highest page-aligned place for `size` bytes in [floor, ceiling), restricted to usable RAM below 3 GiB.
std::optional<u64> place_high(const GuestRam& ram, u64 size, u64 floor, u64 ceiling);

}  // namespace deja
