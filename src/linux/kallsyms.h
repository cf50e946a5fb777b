// The symbol table that a Linux kernel carries for its own oopses (kernel/kallsyms.c), read from the kernel's
// file. It is all the symbols there are without a debug package.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/types.h"

namespace deja {

struct KernelSymbol {
  u64 address = 0;  // as linked; offsets of per-CPU variables are small
  char type = 0;    // as nm prints it
  std::string name;
};

// From an unpacked vmlinux of Linux up to 6.3 for x86-64, in the table's order. Empty: not found. Any bytes
// are safe.
std::vector<KernelSymbol> read_kallsyms(std::span<const u8> vmlinux);

// An ELF file for debuggers, with these symbols and nothing else.
std::vector<u8> symbols_as_elf(const std::vector<KernelSymbol>& symbols);

}  // namespace deja
