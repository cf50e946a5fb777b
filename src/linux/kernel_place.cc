#include "linux/kernel_place.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "timeline/living_spaces.h"

namespace deja {
namespace {

constexpr std::string_view kBanner = "Linux version ";
constexpr std::size_t kLongestBanner = 512;  // it has to fit into a line of the kernel's log
// The image is mapped somewhere in the 1 GiB from __START_KERNEL_map on, at a multiple of 2 MiB
// (arch/x86/include/asm/page_64_types.h, KERNEL_IMAGE_SIZE; CONFIG_PHYSICAL_ALIGN is at least 2 MiB).
constexpr u64 kImages = 0xffffffff80000000, kImagesSize = 1_GiB, kAlign = 2_MiB;
bool is_digit(char c) { return c >= '0' && c <= '9'; }

std::optional<u64> slide_in(const GuestView& memory, const KernelBanner& banner) {
  std::string there(banner.text.size(), '\0');
  for (u64 at = kImages + banner.address % kAlign; at - kImages < kImagesSize; at += kAlign)
    if (memory.read(at, there.data(), there.size()) && there == banner.text) return at - banner.address;
  return std::nullopt;
}

}  // namespace

std::optional<KernelBanner> KernelBanner::find(std::span<const u8> vmlinux) {
  Elf64_Ehdr h;
  if (vmlinux.size() < sizeof h) return std::nullopt;
  std::memcpy(&h, vmlinux.data(), sizeof h);
  u64 searched = 0;
  for (u64 i = 0; i < h.e_phnum; ++i) {
    Elf64_Phdr p;
    const u64 at = h.e_phoff + i * sizeof p;
    if (at > vmlinux.size() || vmlinux.size() - at < sizeof p) break;
    std::memcpy(&p, vmlinux.data() + at, sizeof p);
    if (p.p_type != PT_LOAD || p.p_filesz > p.p_memsz || p.p_offset > vmlinux.size() ||
        p.p_filesz > vmlinux.size() - p.p_offset)
      continue;
    // Segments share no bytes of a file; thousands that each have all of it are damage.
    if ((searched += p.p_filesz) > vmlinux.size()) break;
    const std::string_view segment(reinterpret_cast<const char*>(vmlinux.data() + p.p_offset), p.p_filesz);
    for (auto found = segment.find(kBanner); found != segment.npos;
         found = segment.find(kBanner, found + 1)) {
      const std::string_view rest = segment.substr(found, kLongestBanner);
      const auto end = rest.find('\n');
      if (end == rest.npos || !is_digit(rest[kBanner.size()])) continue;
      return KernelBanner{p.p_vaddr + found, std::string(rest.substr(0, end))};
    }
  }
  return std::nullopt;
}

std::optional<KernelPlace> find_kernel(const Machine& machine, const KernelBanner& banner) {
  for (const GuestView& memory : living_spaces(machine))
    if (const auto slide = slide_in(memory, banner)) return KernelPlace{*slide, memory};
  return std::nullopt;
}

}  // namespace deja
