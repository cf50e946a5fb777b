#include "linux/guest_kernel.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

namespace deja {
namespace {

// What an ELF file has at an address, up to the end of the segment.
std::span<const u8> at_address(std::span<const u8> elf, u64 address) {
  Elf64_Ehdr h;
  if (elf.size() < sizeof h) return {};
  std::memcpy(&h, elf.data(), sizeof h);
  for (u64 i = 0; i < h.e_phnum; ++i) {
    Elf64_Phdr p;
    const u64 at = h.e_phoff + i * sizeof p;
    if (at > elf.size() || elf.size() - at < sizeof p) return {};
    std::memcpy(&p, elf.data() + at, sizeof p);
    if (p.p_type != PT_LOAD || address < p.p_vaddr || address - p.p_vaddr >= p.p_filesz) continue;
    if (p.p_offset > elf.size() || p.p_filesz > elf.size() - p.p_offset) return {};
    return elf.subspan(p.p_offset + (address - p.p_vaddr), p.p_filesz - (address - p.p_vaddr));
  }
  return {};
}

}  // namespace

Result<GuestKernel> GuestKernel::make(std::span<const u8> vmlinux, std::vector<KernelSymbol> symbols) {
  GuestKernel kernel;
  kernel.symbols_ = std::move(symbols);
  if (kernel.symbols_.empty())
    return make_error(
        "the kernel has no symbol table of its own that is understood (CONFIG_KALLSYMS of Linux up to 6.3), "
        "so its variables are not found");
  std::optional<KernelBanner> banner = KernelBanner::find(vmlinux);
  if (!banner)
    return make_error(
        "the kernel does not say \"Linux version …\", by which it is found in the guest's memory");
  kernel.banner_ = std::move(*banner);
  auto types = kernel.linked_address_of("__start_BTF");
  if (!types)
    return make_error(
        "the kernel does not describe its types (CONFIG_DEBUG_INFO_BTF), so what its variables hold is not "
        "known");
  std::span<const u8> bytes = at_address(vmlinux, *types);
  if (auto end = kernel.linked_address_of("__stop_BTF"); end && *end >= *types)
    bytes = bytes.first(std::min<u64>(bytes.size(), *end - *types));
  kernel.type_bytes_.assign(bytes.begin(), bytes.end());
  DEJA_ASSIGN(kernel.types_, Btf::parse(kernel.type_bytes_));
  return kernel;
}

Result<u64> GuestKernel::linked_address_of(std::string_view name) const {
  const auto found =
      std::find_if(symbols_.begin(), symbols_.end(), [&](const KernelSymbol& s) { return s.name == name; });
  if (found == symbols_.end())
    return make_error("the kernel's own symbol table has no {} (CONFIG_KALLSYMS_ALL)", name);
  return found->address;
}

Result<RunningKernel> GuestKernel::at_this_moment(const Machine& machine) const {
  const std::optional<KernelPlace> place = find_kernel(machine, banner_);
  if (!place)
    return make_error("the kernel that was recorded is not set up at this moment: no vCPU maps \"{}\"",
                      banner_.text);
  return RunningKernel(*this, *place);
}

Result<u64> RunningKernel::address_of(std::string_view name) const {
  DEJA_ASSIGN(const u64 linked, kernel_.linked_address_of(name));
  return linked + place_.slide;
}

}  // namespace deja
