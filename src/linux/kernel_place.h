// Where the kernel that was recorded runs at a moment. KASLR has moved it; after a kexec it runs elsewhere,
// and in a kdump kernel the memory of the kernel before is still there. So nothing is searched for in RAM:
// the page tables of a vCPU that is alive tell which image is mapped, and its banner tells whether it is the
// one that was recorded.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "timeline/guest_view.h"

namespace deja {

// "Linux version …" as it stands in the kernel's image, and where (init/version.c, linux_banner).
struct KernelBanner {
  u64 address = 0;  // as linked
  std::string text;

  // From an unpacked vmlinux. nullopt: it has none. Any bytes are safe.
  static std::optional<KernelBanner> find(std::span<const u8> vmlinux);
};

struct KernelPlace {
  u64 slide = 0;     // how far from where it was linked it runs
  GuestView memory;  // of an address space that maps it
};

// nullopt: no kernel with this banner is set up at this moment. Changes nothing.
std::optional<KernelPlace> find_kernel(const Machine& machine, const KernelBanner& banner);

}  // namespace deja
