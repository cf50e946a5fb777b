// ELF executables (System V gABI chapters 4 and 5), as far as a loader at physical addresses needs them.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "base/types.h"
#include "machine/e820.h"

namespace deja {

inline constexpr u16 kElfMachine386 = 3, kElfMachineX8664 = 62;
inline constexpr u16 kElfExecutable = 2;  // ET_EXEC

// A PT_LOAD program header. Checked: the file range is inside the file, memory is no smaller than the file
// part, and no address wraps around.
struct ElfSegment {
  u64 offset = 0;  // in the file
  u64 file_size = 0;
  u64 virtual_address = 0;
  u64 physical_address = 0;
  u64 memory_size = 0;
};

struct ElfImage {
  bool is_64bit = false;
  u16 type = 0;
  u16 machine = 0;
  u64 entry = 0;  // as in the header: physical or virtual
  std::vector<ElfSegment> segments;

  // The physical address of the entry point. An entry outside every segment's physical range is taken as
  // virtual; nullopt when no segment has it.
  std::optional<u64> physical_entry() const;
  // Lowest and highest (exclusive) physical address.
  u64 start() const;
  u64 end() const;
};

bool is_elf(std::span<const u8> file);

// Parses the headers of a little-endian ELF32 or ELF64 file, which may be hostile. Segments without memory
// are left out; at least one remains. The error says what is wrong, not with which file.
Result<ElfImage> parse_elf(std::span<const u8> file);

// Copies the segments of `image`, parsed from `file`, to their physical addresses and zeroes their rest. All
// must be usable RAM from 1 MiB up.
Status load_elf(GuestRam& ram, const ElfImage& image, std::span<const u8> file);

}  // namespace deja
