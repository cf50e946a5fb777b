#include "machine/elf_kernel.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "machine/boot_memory.h"

namespace deja {
namespace {

template <class Ehdr, class Phdr>
Result<ElfImage> parse(std::span<const u8> file) {
  Ehdr header;
  if (file.size() < sizeof header)
    return make_error("ELF header cut short: the file has {} bytes", file.size());
  std::memcpy(&header, file.data(), sizeof header);
  if (header.e_phentsize != sizeof(Phdr))
    return make_error("ELF program headers of {} bytes, expected {}", header.e_phentsize, sizeof(Phdr));
  if (header.e_phnum == PN_XNUM) return make_error("more ELF program headers than fit into the ELF header");
  const u64 table_size = u64{header.e_phnum} * sizeof(Phdr);
  if (header.e_phoff > file.size() || table_size > file.size() - header.e_phoff)
    return make_error("{} ELF program headers at byte {:#x} lie outside the file of {:#x} bytes",
                      header.e_phnum, u64{header.e_phoff}, file.size());

  ElfImage image;
  image.is_64bit = sizeof header.e_entry == 8;
  image.type = header.e_type;
  image.machine = header.e_machine;
  image.entry = header.e_entry;
  for (unsigned i = 0; i < header.e_phnum; ++i) {
    Phdr p;
    std::memcpy(&p, file.data() + header.e_phoff + i * sizeof p, sizeof p);
    if (p.p_type != PT_LOAD || p.p_memsz == 0) continue;
    const ElfSegment s{p.p_offset, p.p_filesz, p.p_vaddr, p.p_paddr, p.p_memsz};
    if (s.offset > file.size() || s.file_size > file.size() - s.offset)
      return make_error(
          "ELF segment {} ({:#x} bytes at byte {:#x}) lies outside the file of {:#x} bytes: truncated?", i,
          s.file_size, s.offset, file.size());
    if (s.file_size > s.memory_size)
      return make_error("ELF segment {} has {:#x} bytes in the file but only {:#x} in memory", i, s.file_size,
                        s.memory_size);
    if (s.physical_address + s.memory_size < s.physical_address)
      return make_error("ELF segment {} wraps around the end of the address space", i);
    image.segments.push_back(s);
  }
  if (image.segments.empty()) return make_error("the ELF file has nothing to load (no PT_LOAD segment)");
  return image;
}

}  // namespace

std::optional<u64> ElfImage::physical_entry() const {
  for (const ElfSegment& s : segments)
    if (entry >= s.physical_address && entry - s.physical_address < s.memory_size) return entry;
  for (const ElfSegment& s : segments)
    if (entry >= s.virtual_address && entry - s.virtual_address < s.memory_size)
      return s.physical_address + (entry - s.virtual_address);
  return std::nullopt;
}

u64 ElfImage::start() const {
  u64 start = ~u64{0};
  for (const ElfSegment& s : segments) start = std::min(start, s.physical_address);
  return start;
}

u64 ElfImage::end() const {
  u64 end = 0;
  for (const ElfSegment& s : segments) end = std::max(end, s.physical_address + s.memory_size);
  return end;
}

bool is_elf(std::span<const u8> file) {
  return file.size() >= SELFMAG && !std::memcmp(file.data(), ELFMAG, SELFMAG);
}

Result<ElfImage> parse_elf(std::span<const u8> file) {
  if (!is_elf(file) || file.size() < EI_NIDENT) return make_error("not an ELF file");
  if (file[EI_DATA] != ELFDATA2LSB) return make_error("the ELF file is not little-endian");
  switch (file[EI_CLASS]) {
    case ELFCLASS32:
      return parse<Elf32_Ehdr, Elf32_Phdr>(file);
    case ELFCLASS64:
      return parse<Elf64_Ehdr, Elf64_Phdr>(file);
  }
  return make_error("unknown ELF class {}", file[EI_CLASS]);
}

Status load_elf(GuestRam& ram, const ElfImage& image, std::span<const u8> file) {
  // Segments of a sound file don't overlap, so together they are no larger than RAM; a hostile one could make
  // us zero the same gigabytes thousands of times.
  u64 total = 0;
  for (const ElfSegment& s : image.segments) {
    // Judged as a whole, so that the message tells how much RAM the kernel needs.
    if (!check_loadable(ram, s.physical_address, s.memory_size))
      return check_loadable(ram, image.start(), image.end() - image.start());
    total += s.memory_size;
  }
  if (total > ram.size()) return make_error("the ELF segments overlap");
  for (const ElfSegment& s : image.segments) {
    write_boot(ram, s.physical_address, file.subspan(s.offset, s.file_size));
    zero_boot(ram, s.physical_address + s.file_size, s.memory_size - s.file_size);
  }
  return {};
}

}  // namespace deja
