// What scripts/kallsyms.c of Linux up to 6.3 writes, each part aligned to 8 bytes:
//   offsets        u32 a symbol
//   relative base  u64
//   count          u32
//   names          per symbol: length (one byte, or two when the first has bit 7), then that many token
//   numbers;
//                  the first character of the text is the type
//   markers        u32: where in `names` each 256th symbol begins
//   numbers        (newer ones) three bytes a symbol, the order of the names
//   token table    256 strings
//   token index    u16 a token: where in the token table it begins
// No header says where they are. The digits, which stand for themselves, give the token table away; the
// others are found from there, backwards.
#include "linux/kallsyms.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <string_view>

#include "base/check.h"
#include "base/elf.h"
#include "base/printable.h"

namespace deja {
namespace {

constexpr unsigned kTokens = 256, kPerMarker = 256, kLongestToken = 64;
constexpr std::size_t kLongestName = 512;  // KSYM_NAME_LEN; up to 6.0 it was 128
constexpr u64 kMostSymbols = 4'000'000;
constexpr std::size_t kMostText = 256_MiB;  // of all names together
// Looks at places and names, in all of a file, until there is no table in it; a kernel takes some 10^6.
constexpr u64 kMostLooks = u64{1} << 28;

u64 align8(u64 n) { return (n + 7) & ~u64{7}; }

class Tables {
 public:
  // Takes what it looks at from `looks`.
  Tables(std::span<const u8> file, u64* looks) : file_(file), looks_(looks) {}

  // Tries the token table that has its digits at `digits`.
  bool find(u64 digits) { return find_tokens(digits) && find_names(); }

  std::vector<KernelSymbol> symbols() const {
    std::vector<KernelSymbol> out;
    const u64 base = get<u64>(names_ - 16);
    const u64 offsets = names_ - 16 - align8(count_ * 4);
    u64 at = names_;
    std::size_t total = 0;
    for (u64 i = 0; i < count_ && total <= kMostText; ++i) {
      const u64 length = name_length(&at);
      std::string text;
      for (u64 k = 0; k < length && text.size() <= kLongestName; ++k) text += token(file_[at + k]);
      at += length;
      // One with its type that is longer than the kernel has room for is damage.
      if (text.size() < 2 || text.size() > kLongestName) continue;
      total += text.size();
      // Negative: relative to the base; else absolute (CONFIG_KALLSYMS_ABSOLUTE_PERCPU).
      const i32 offset = static_cast<i32>(get<u32>(offsets + i * 4));
      const u64 address = offset < 0 ? base - 1 - static_cast<u64>(i64{offset}) : static_cast<u64>(offset);
      out.push_back({address, text[0], printable(text.substr(1))});
    }
    return out;
  }

 private:
  template <class T>
  T get(u64 at) const {
    T value;
    std::memcpy(&value, &file_[at], sizeof value);
    return value;
  }
  std::string_view token(u8 n) const {
    return reinterpret_cast<const char*>(&file_[token_table_ + token_at_[n]]);
  }
  // Moves *at behind the length.
  u64 name_length(u64* at) const {
    u64 n = file_[(*at)++];
    if (n & 0x80) n = (n & 0x7f) | u64{file_[(*at)++]} << 7;
    return n;
  }

  bool find_tokens(u64 digits) {
    // Back over the 47 tokens between the first one and '0'.
    u64 at = digits;
    for (unsigned i = 1; i < '0'; ++i) {
      if (at < 2 || file_[at - 1] != 0) return false;
      for (--at; at > 0 && file_[at - 1] != 0; --at)
        if (digits - at > kTokens * kLongestToken) return false;
    }
    // What stands before the first token need not end in a zero, but the table is aligned.
    if (at < 2 || file_[at - 1] != 0) return false;
    u64 start = at - 1;
    do {
      if (start % 8 == 0 && start < at - 1 && tokens_begin(start)) return true;
    } while (start > 0 && at - start < kLongestToken && file_[--start] != 0);
    return false;
  }
  bool tokens_begin(u64 start) {
    u64 at = token_table_ = start;
    for (unsigned i = 0; i < kTokens; ++i) {
      token_at_[i] = static_cast<u16>(at - start);
      const u64 token = at;
      while (at < file_.size() && file_[at] != 0 && at - token <= kLongestToken) ++at;
      if (at - token > kLongestToken || ++at >= file_.size()) return false;
    }
    const u64 index = align8(at);
    if (file_.size() < index + kTokens * 2) return false;
    return std::memcmp(&file_[index], token_at_.data(), kTokens * 2) == 0;
  }

  // Names lie before the token table, and their count right before them.
  bool find_names() {
    constexpr u64 kFewest = 256, kShortest = 4, kLongest = 64;  // bytes a symbol takes, all in all
    for (u64 at = token_table_ & ~u64{7}; at >= 24 && token_table_ - at < kMostSymbols * kLongest; at -= 8) {
      if (!look()) return false;
      const u64 count = get<u64>(at - 8);  // padded with zeros
      const u64 size = token_table_ - at;
      if (count < kFewest || count > kMostSymbols || size < count * kShortest || size > count * kLongest ||
          at - 16 < align8(count * 4) || !names_fit(at, count))
        continue;
      names_ = at;
      count_ = count;
      return true;
    }
    return false;
  }
  // Whether behind `count` names from `from` on there are markers that point at every 256th of them, and then
  // the token table.
  bool names_fit(u64 from, u64 count) {
    std::vector<u32> expected;
    u64 at = from;
    for (u64 i = 0; i < count; ++i) {
      if (at + 2 >= token_table_ || !look()) return false;
      if (i % kPerMarker == 0) expected.push_back(static_cast<u32>(at - from));
      at += name_length(&at);
    }
    const u64 markers = align8(at), end = align8(markers + expected.size() * 4);
    if (end > token_table_) return false;
    if (end != token_table_ && align8(end + count * 3) != token_table_) return false;
    return std::memcmp(&file_[markers], expected.data(), expected.size() * 4) == 0;
  }

  // False: that was enough.
  bool look() { return *looks_ && (*looks_)--; }

  std::span<const u8> file_;
  u64* looks_;
  u64 token_table_ = 0, names_ = 0, count_ = 0;
  std::array<u16, kTokens> token_at_{};
};

void append(std::vector<u8>& out, const void* data, std::size_t size) {
  const u8* p = static_cast<const u8*>(data);
  out.insert(out.end(), p, p + size);
}

bool is_code(char type) { return std::string_view("tTwWi").find(type) != std::string_view::npos; }

}  // namespace

std::vector<KernelSymbol> read_kallsyms(std::span<const u8> vmlinux) {
  constexpr std::string_view kDigits("0\0001\0002\0003\0004\0005\0006\0007\0008\0009\0", 20);
  const std::string_view text(reinterpret_cast<const char*>(vmlinux.data()), vmlinux.size());
  u64 looks = kMostLooks;
  for (u64 at = text.find(kDigits); at != std::string_view::npos && looks; at = text.find(kDigits, at + 1)) {
    Tables tables(vmlinux, &looks);
    if (tables.find(at)) return tables.symbols();
  }
  return {};
}

std::vector<u8> symbols_as_elf(const std::vector<KernelSymbol>& symbols) {
  constexpr u64 kKernelHalf = u64{1} << 63;
  u64 lowest = ~u64{0}, highest = 0;
  for (const KernelSymbol& s : symbols) {
    if (s.address < kKernelHalf) continue;
    lowest = std::min(lowest, s.address);
    highest = std::max(highest, s.address);
  }
  std::vector<u8> strings(1), table(sizeof(Elf64_Sym));
  for (const KernelSymbol& s : symbols) {
    Elf64_Sym symbol{};
    symbol.st_name = static_cast<Elf64_Word>(strings.size());
    symbol.st_info = ELF64_ST_INFO(STB_GLOBAL, is_code(s.type) ? STT_FUNC : STT_OBJECT);
    symbol.st_shndx = s.address < kKernelHalf ? SHN_ABS : 1;
    symbol.st_value = s.address;
    append(strings, s.name.c_str(), s.name.size() + 1);
    append(table, &symbol, sizeof symbol);
  }
  constexpr char kNames[] = "\0.text\0.symtab\0.strtab\0.shstrtab";
  Elf64_Ehdr header = elf64_header(ET_EXEC);
  header.e_shentsize = sizeof(Elf64_Shdr);
  header.e_shnum = 5;
  header.e_shstrndx = 4;
  Elf64_Shdr sections[5]{};
  // Text, as far as debuggers care: they want a section for an address.
  sections[1] = {1,  SHT_NOBITS, SHF_ALLOC | SHF_EXECINSTR, lowest, sizeof header, highest + 1 - lowest, 0, 0,
                 16, 0};
  u64 at = sizeof header;
  sections[2] = {7, SHT_SYMTAB, 0, 0, at, table.size(), 3, 1, 8, sizeof(Elf64_Sym)};
  at += table.size();
  sections[3] = {15, SHT_STRTAB, 0, 0, at, strings.size(), 0, 0, 1, 0};
  at += strings.size();
  sections[4] = {23, SHT_STRTAB, 0, 0, at, sizeof kNames, 0, 0, 1, 0};
  header.e_shoff = align8(at + sizeof kNames);
  std::vector<u8> out;
  append(out, &header, sizeof header);
  append(out, table.data(), table.size());
  append(out, strings.data(), strings.size());
  append(out, kNames, sizeof kNames);
  DEJA_CHECK(out.size() <= header.e_shoff && header.e_shoff - out.size() < 8,
             "{} bytes stand before the sections at {}", out.size(), u64{header.e_shoff});
  out.resize(header.e_shoff);
  append(out, sections, sizeof sections);
  return out;
}

}  // namespace deja
