#include "machine/boot_memory.h"

#include <algorithm>
#include <cstring>

#include "machine/e820.h"

namespace deja {

Status check_loadable(const GuestRam& ram, u64 start, u64 size) {
  const E820Map map(ram);
  if (map.loadable(start, size)) return {};
  if (start < kExtendedStart)
    return make_error("it loads at {:#x}, below 1 MiB, where firmware data and boot information are", start);
  if (start < kMaxLowRam && size <= kMaxLowRam - start)
    return make_error(
        "it needs memory up to {} MiB, but of {} MiB RAM {} MiB are usable; give the guest more (-m)",
        ((start + size - 1) >> 20) + 1, ram.size() >> 20, map.low_usable_end() >> 20);
  return make_error("it loads at {:#x}..{:#x}, which is not RAM in this machine", start, start + size);
}

void write_boot(GuestRam& ram, u64 address, std::span<const u8> data) {
  DEJA_CHECK(ram.write(Gpa(address), data.data(), data.size()), "{:#x}+{:#x}", address, data.size());
}

void zero_boot(GuestRam& ram, u64 address, u64 size) {
  DEJA_CHECK(ram.contains(Gpa(address), size), "{:#x}+{:#x}", address, size);
  static constexpr u8 kZeros[kPageSize] = {};
  for (const u64 end = address + size; address < end;) {
    const u64 n = std::min(end - address, kPageSize - address % kPageSize);
    if (std::memcmp(ram.host(Gpa(address)), kZeros, n) != 0) write_boot(ram, address, {kZeros, n});
    address += n;
  }
}

std::optional<u64> place_high(const GuestRam& ram, u64 size, u64 floor, u64 ceiling) {
  const u64 top = std::min(E820Map(ram).low_usable_end(), ceiling);
  if (size > top) return std::nullopt;
  const u64 start = (top - size) & ~(kPageSize - 1);
  if (start < floor) return std::nullopt;
  return start;
}

}  // namespace deja
