#include "execute/tlb/page_probe.h"

#include <sys/mman.h>

#include "guest/canonical.h"

namespace deja {
namespace {

// The lookup reads at (linear address - address in the tag) >> 12: 0 on a hit, 1 when the operand crosses the
// page's end, and below 2^36 (2^45 under five levels of page tables) for every other pair of canonical
// addresses, unless the sum is not canonical itself.
constexpr u64 kGuard = (u64{1} << (kLinearBits - kPageShift)) + kPageSize;
constexpr u64 kEnd = u64{1} << 31;  // of the addresses that a 32-bit displacement reaches

u64 reserve() {
  for (u64 page = kEnd - kPageSize; page > kEnd - 1_GiB; page -= 1_MiB) {
    void* const at = mmap(reinterpret_cast<void*>(page), kPageSize + kGuard, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (at == MAP_FAILED) continue;
    if (at == reinterpret_cast<void*>(page) && mprotect(at, kPageSize, PROT_READ) == 0)
      return page + kPageSize - 1;
    munmap(at, kPageSize + kGuard);
  }
  return 0;
}

}  // namespace

u64 page_probe() {
  static const u64 address = reserve();
  return address;
}

}  // namespace deja
