#include "linux/elf_symbols.h"

#include "base/printable.h"

#include <elf.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "base/host_limits.h"

namespace deja {
namespace {

constexpr u64 kLargestFile = 4_GiB;
constexpr unsigned kDeepest = 8;  // directories
constexpr std::size_t kMostFiles = 20'000;

// A copy of the T at `offset`; nothing when it does not lie inside the file.
template <class T>
std::optional<T> at(std::span<const u8> file, u64 offset) {
  if (offset > file.size() || file.size() - offset < sizeof(T)) return std::nullopt;
  T value;
  std::memcpy(&value, file.data() + offset, sizeof value);
  return value;
}

std::span<const u8> part(std::span<const u8> file, u64 offset, u64 size) {
  if (offset > file.size() || file.size() - offset < size) return {};
  return file.subspan(offset, size);
}

std::string_view text_at(std::span<const u8> strings, u64 offset) {
  if (offset >= strings.size()) return {};
  const char* s = reinterpret_cast<const char*>(strings.data() + offset);
  return {s, strnlen(s, strings.size() - offset)};
}

std::optional<Elf64_Ehdr> header(std::span<const u8> file) {
  const auto h = at<Elf64_Ehdr>(file, 0);
  if (!h || std::memcmp(h->e_ident, ELFMAG, SELFMAG) != 0 || h->e_ident[EI_CLASS] != ELFCLASS64 ||
      h->e_ident[EI_DATA] != ELFDATA2LSB || h->e_machine != EM_X86_64)
    return std::nullopt;
  return h;
}

std::vector<Elf64_Shdr> sections(std::span<const u8> file, const Elf64_Ehdr& h) {
  std::vector<Elf64_Shdr> out;
  for (unsigned i = 0; i < h.e_shnum && h.e_shentsize == sizeof(Elf64_Shdr); ++i) {
    const auto s = at<Elf64_Shdr>(file, h.e_shoff + i * sizeof(Elf64_Shdr));
    if (!s) return {};
    out.push_back(*s);
  }
  return out;
}

bool is_symbol_of_interest(const Elf64_Sym& s) {
  const unsigned type = ELF64_ST_TYPE(s.st_info);
  return s.st_shndx != SHN_UNDEF && (type == STT_FUNC || type == STT_OBJECT || type == STT_NOTYPE);
}

}  // namespace

std::string build_id_in_notes(std::span<const u8> notes) {
  for (u64 offset = 0;;) {
    const auto n = at<Elf64_Nhdr>(notes, offset);
    if (!n) return {};
    const u64 name = offset + sizeof *n, descriptor = name + ((u64{n->n_namesz} + 3) & ~u64{3});
    const std::span<const u8> id = part(notes, descriptor, n->n_descsz);
    const std::span<const u8> owner = part(notes, name, n->n_namesz);
    if (n->n_type == NT_GNU_BUILD_ID && owner.size() == 4 && std::memcmp(owner.data(), "GNU", 4) == 0) {
      std::string hex;
      for (const u8 b : id) hex += show("{:02x}", b);
      return hex;
    }
    offset = descriptor + ((u64{n->n_descsz} + 3) & ~u64{3});
  }
}

std::optional<ElfInfo> elf_info(std::span<const u8> file) {
  const auto h = header(file);
  if (!h) return std::nullopt;
  ElfInfo info;
  info.fixed_address = h->e_type == ET_EXEC;
  info.lowest = ~u64{0};
  for (unsigned i = 0; i < h->e_phnum && h->e_phentsize == sizeof(Elf64_Phdr); ++i) {
    const auto p = at<Elf64_Phdr>(file, h->e_phoff + i * sizeof(Elf64_Phdr));
    if (!p) break;
    if (p->p_type == PT_NOTE && info.build_id.empty())
      info.build_id = build_id_in_notes(part(file, p->p_offset, p->p_filesz));
    if (p->p_type != PT_LOAD) continue;
    info.lowest = std::min(info.lowest, p->p_vaddr);
    info.highest = std::max(info.highest, p->p_vaddr + p->p_memsz);
  }
  if (info.highest == 0) info.lowest = 0;
  const std::vector<Elf64_Shdr> all = sections(file, *h);
  std::span<const u8> names;
  if (h->e_shstrndx < all.size())
    names = part(file, all[h->e_shstrndx].sh_offset, all[h->e_shstrndx].sh_size);
  for (const Elf64_Shdr& s : all) {
    if (s.sh_type == SHT_SYMTAB) info.has_symbols = true;
    if (s.sh_type == SHT_DYNSYM) info.has_exports = true;
    if (s.sh_type == SHT_NOTE && info.build_id.empty())
      info.build_id = build_id_in_notes(part(file, s.sh_offset, s.sh_size));
    if (text_at(names, s.sh_name) == ".data..percpu" && h->e_type == ET_EXEC) info.is_kernel = true;
  }
  return info;
}

ElfSymbols ElfSymbols::read(std::span<const u8> file) {
  ElfSymbols out;
  const auto h = header(file);
  if (!h) return out;
  const std::vector<Elf64_Shdr> all = sections(file, *h);
  // A stripped library still has the names of what it exports.
  const bool own =
      std::any_of(all.begin(), all.end(), [](const Elf64_Shdr& s) { return s.sh_type == SHT_SYMTAB; });
  for (const Elf64_Shdr& s : all) {
    if (s.sh_type != (own ? SHT_SYMTAB : SHT_DYNSYM) || s.sh_link >= all.size()) continue;
    const std::span<const u8> strings = part(file, all[s.sh_link].sh_offset, all[s.sh_link].sh_size);
    for (u64 offset = 0; offset + sizeof(Elf64_Sym) <= s.sh_size; offset += sizeof(Elf64_Sym)) {
      const auto symbol = at<Elf64_Sym>(file, s.sh_offset + offset);
      if (!symbol) break;
      const std::string_view name = text_at(strings, symbol->st_name);
      if (!name.empty() && is_symbol_of_interest(*symbol))
        out.symbols_.push_back({symbol->st_value, symbol->st_size, std::string(name)});
    }
  }
  out.sort();
  return out;
}

ElfSymbols ElfSymbols::of(const std::vector<std::pair<u64, std::string>>& symbols) {
  ElfSymbols out;
  for (const auto& [address, name] : symbols) out.symbols_.push_back({address, 0, name});
  out.sort();
  for (std::size_t i = out.symbols_.size(); i-- > 1;) {
    Symbol& s = out.symbols_[i - 1];
    const Symbol& next = out.symbols_[i];
    s.size = next.address > s.address ? next.address - s.address : next.size;
  }
  return out;
}

void ElfSymbols::sort() {
  std::stable_sort(symbols_.begin(), symbols_.end(),
                   [](const Symbol& a, const Symbol& b) { return a.address < b.address; });
}

std::string ElfSymbols::name_of(u64 address) const {
  constexpr u64 kFarthest = 64_KiB;  // of symbols without a size, as assembly has them
  auto it = std::upper_bound(symbols_.begin(), symbols_.end(), address,
                             [](u64 a, const Symbol& s) { return a < s.address; });
  // Where a place has several names: the one that has a size and covers the address.
  const Symbol* best = nullptr;
  while (it != symbols_.begin()) {
    --it;
    if (best && it->address != best->address) break;
    const bool covers = it->size ? address - it->address < it->size : address - it->address < kFarthest;
    if (covers && (!best || it->size > best->size)) best = &*it;
    if (!best) break;
  }
  if (!best) return {};
  return address == best->address ? best->name : show("{}+{:#x}", best->name, address - best->address);
}

std::optional<u64> ElfSymbols::address_of(std::string_view name) const {
  for (const Symbol& s : symbols_)
    if (s.name == name) return s.address;
  return std::nullopt;
}

Result<std::vector<u8>> read_whole_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = in.tellg();
  if (!in || size < 0) return make_error("{}: cannot be read: {}", path.string(), host_error(errno));
  if (static_cast<u64>(size) > kLargestFile) return make_error("{}: larger than 4 GiB", path.string());
  std::vector<u8> bytes(static_cast<std::size_t>(size));
  in.seekg(0);
  in.read(reinterpret_cast<char*>(bytes.data()), size);
  if (!in) return make_error("{}: cannot be read: {}", path.string(), host_error(errno));
  return bytes;
}

Result<std::vector<SymbolFile>> find_symbol_files(const std::vector<std::string>& where) {
  std::vector<SymbolFile> out;
  const auto looks_like_elf = [](const std::filesystem::path& path) {
    char magic[SELFMAG] = {};
    std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
    return std::memcmp(magic, ELFMAG, SELFMAG) == 0;
  };
  for (const std::string& place : where) {
    // Paths go into commands for gdb, of which a line is one.
    if (printable(place) != place)
      return make_error("--symbols {}: a name with such characters is not taken", place);
    std::error_code error;
    if (!std::filesystem::is_directory(place, error)) {
      DEJA_ASSIGN(const std::vector<u8> bytes, read_whole_file(place));
      const auto info = elf_info(bytes);
      if (!info) return make_error("--symbols {}: not an ELF file for x86-64", place);
      out.push_back({place, *info});
      continue;
    }
    std::filesystem::recursive_directory_iterator it(
        place, std::filesystem::directory_options::skip_permission_denied, error);
    for (; !error && it != std::filesystem::recursive_directory_iterator(); it.increment(error)) {
      if (it.depth() > static_cast<int>(kDeepest)) it.disable_recursion_pending();
      if (!it->is_regular_file(error) || !looks_like_elf(it->path())) continue;
      const auto bytes = read_whole_file(it->path());
      if (!bytes) continue;
      const auto info = elf_info(bytes.value());
      if (!info || (!info->has_symbols && !info->has_exports)) continue;
      // A file of several names, as links give them, is one.
      std::error_code unknown;
      const std::filesystem::path real = std::filesystem::canonical(it->path(), unknown);
      const std::filesystem::path& path = unknown ? it->path() : real;
      if (printable(path.string()) == path.string()) out.push_back({path, *info});
      if (out.size() > kMostFiles)
        return make_error("--symbols {}: more than {} files with symbols; name a smaller directory", place,
                          kMostFiles);
    }
    if (error) return make_error("--symbols {}: {}", place, error.message());
  }
  // The order of a directory is the file system's.
  std::stable_sort(out.begin(), out.end(),
                   [](const SymbolFile& a, const SymbolFile& b) { return a.path < b.path; });
  out.erase(std::unique(out.begin(), out.end(),
                        [](const SymbolFile& a, const SymbolFile& b) { return a.path == b.path; }),
            out.end());
  return out;
}

}  // namespace deja
