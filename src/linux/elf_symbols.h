// ELF files as debuggers want them: whose they are (build-id), where they were linked, what they call their
// functions and variables. Any file is safe to read.
#pragma once

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace deja {

struct ElfInfo {
  bool fixed_address = false;   // ET_EXEC: runs where it was linked
  u64 lowest = 0, highest = 0;  // of its segments in memory, highest exclusive
  std::string build_id;         // hexadecimal; empty: it has none
  bool has_symbols = false;     // of its own
  bool has_exports = false;     // only or also those that it shows other programs and libraries
  bool is_kernel = false;       // a vmlinux
};
// nullopt: not a 64-bit little-endian ELF file for x86-64.
std::optional<ElfInfo> elf_info(std::span<const u8> file);

// The build-id among the notes of an ELF file, in hexadecimal; empty when there is none.
std::string build_id_in_notes(std::span<const u8> notes);

// Functions and variables of one file, by address as linked.
class ElfSymbols {
 public:
  static ElfSymbols read(std::span<const u8> file);
  // One of a size unknown ends where the next one begins.
  static ElfSymbols of(const std::vector<std::pair<u64, std::string>>& symbols);
  // "vfs_read+0x1c"; empty when no symbol is near.
  std::string name_of(u64 address) const;
  std::optional<u64> address_of(std::string_view name) const;
  bool empty() const { return symbols_.empty(); }

 private:
  struct Symbol {
    u64 address, size;
    std::string name;
  };
  void sort();

  std::vector<Symbol> symbols_;  // by address
};

struct SymbolFile {
  std::filesystem::path path;
  ElfInfo info;
};
// The ELF files with symbols or exports among `where`: files, and what lies in and below directories. An
// error: a path that is not there, or a file that is no ELF file.
Result<std::vector<SymbolFile>> find_symbol_files(const std::vector<std::string>& where);

Result<std::vector<u8>> read_whole_file(const std::filesystem::path& path);

}  // namespace deja
