// Which symbol files belong to what a recording runs, and names for addresses.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "linux/elf_symbols.h"
#include "linux/guest_images.h"
#include "linux/kernel_place.h"
#include "timeline/navigator.h"

namespace deja {

// What make() below will read, for the sandbox: to be called before a guest runs.
void allow_symbols(const std::vector<std::string>& where);

class GuestSymbols {
 public:
  // `where`: what the user gave, files and directories; Debian's places for debug files are looked into for
  // the kernel anyway, and if they have nothing, into the kernel itself. Finds where the kernel runs, or will
  // next, for which it may go elsewhere in the recording and back. An error: a file that is not usable, or
  // the kernel file of another kernel.
  static Result<GuestSymbols> make(Navigator& nav, const std::vector<std::string>& where);

  // The file with the kernel's symbols; empty: there is none.
  const std::filesystem::path& kernel_file() const { return kernel_file_; }
  // An ELF file made of the kernel's own symbol table, when that is all there is; otherwise empty.
  const std::vector<u8>& kernel_elf() const { return kernel_elf_; }
  u64 kernel_slide() const { return kernel_slide_; }
  const std::optional<KernelBanner>& kernel_banner() const { return banner_; }
  // Programs, libraries and modules.
  const std::vector<SymbolFile>& files() const { return files_; }
  // Whether the kernel runs elsewhere at this moment than where make() found it: after a kexec.
  bool kernel_moved(const Machine& machine) const;
  // The symbol at an address of code; empty when nobody knows.
  std::string name_of(const GuestView& memory, u64 address);

 private:
  // What an address space showed at a step, which it takes thousands of looks to find out.
  struct Sight {
    Step step = kNeverStep;
    u64 table = 0;
    u64 kernel_slide = 0;
    std::optional<std::vector<GuestImage>> images;  // looked for when one is asked about
  };
  Sight& sight(const GuestView& memory);
  std::string name_in_images(const GuestView& memory, u64 address);
  const ElfSymbols& symbols_of(const SymbolFile& file);
  Status add_kernel(Navigator& nav, const std::vector<SymbolFile>& given);
  Status use_own_table(Navigator& nav, std::span<const u8> kernel);

  ElfSymbols kernel_;
  std::filesystem::path kernel_file_;
  std::vector<u8> kernel_elf_;
  std::optional<KernelBanner> banner_;
  u64 kernel_slide_ = 0;
  std::vector<SymbolFile> files_;
  std::map<std::string, ElfSymbols> read_;  // by path
  Sight sight_;                             // the last one
};

}  // namespace deja
