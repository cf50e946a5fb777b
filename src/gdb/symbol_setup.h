// Which symbol files belong to what a recording runs, and where to: as commands for gdb, and names for
// addresses.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "linux/elf_symbols.h"
#include "linux/kernel_place.h"
#include "linux/tasks.h"
#include "timeline/navigator.h"

namespace deja {

// A program or library that is mapped in an address space, recognised by its ELF header.
struct GuestImage {
  u64 base = 0;  // where its first segment is
  bool fixed_address = false;
  u64 lowest = 0;        // where it was linked
  std::string build_id;  // hexadecimal; empty: none, or its page is not there
};
// In the user half of what `vcpu` sees. Changes nothing.
std::vector<GuestImage> guest_images(Machine& machine, unsigned vcpu);

// What make() below will read, for the sandbox: to be called before a guest runs.
void allow_symbols(const std::vector<std::string>& where);

// What the Linux that was recorded says of itself. An error says what its kernel lacks.
Result<GuestKernel> find_guest_kernel(Navigator& nav);
Result<TaskList> make_task_list(Navigator& nav);

// For gdb: loads the symbols of the kernel that runs so far from where it was linked, and tells deja.py,
// which loads them again where the kernel runs elsewhere.
std::vector<std::string> kernel_symbol_commands(const std::filesystem::path& file, u64 slide);

class SymbolSetup {
 public:
  // `where`: what the user gave, files and directories; Debian's places for debug files are looked into for
  // the kernel anyway, and if they have nothing, into the kernel itself. Finds where the kernel runs, or will
  // next, for which it may go elsewhere in the recording and back. An error: a file that is not usable, or
  // the kernel file of another kernel.
  static Result<SymbolSetup> make(Navigator& nav, const std::vector<std::string>& where);

  // For gdb, before it connects.
  const std::vector<std::string>& gdb_commands() const { return commands_; }
  // An ELF file to be loaded first, at kernel_slide(), when the kernel's own symbol table is all there is.
  const std::vector<u8>& kernel_elf() const { return kernel_elf_; }
  u64 kernel_slide() const { return kernel_slide_; }
  const std::optional<KernelBanner>& kernel_banner() const { return banner_; }
  // Whether the kernel runs elsewhere at this moment than where make() found it: after a kexec.
  bool kernel_moved(Machine& machine) const;
  // The symbol at an address that `vcpu` runs at; empty when nobody knows.
  std::string name_of(Machine& machine, unsigned vcpu, u64 address);

 private:
  Status add_kernel(Navigator& nav, const std::vector<SymbolFile>& given);
  Status use_own_table(Navigator& nav, std::span<const u8> kernel);

  std::vector<std::string> commands_;
  ElfSymbols kernel_;
  std::vector<u8> kernel_elf_;
  std::optional<KernelBanner> banner_;
  u64 kernel_slide_ = 0;
  std::vector<SymbolFile> programs_;
  std::map<std::string, ElfSymbols> read_;  // by path
};

}  // namespace deja
