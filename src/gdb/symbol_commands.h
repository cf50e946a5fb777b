// The symbols of a recording as commands for gdb.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "linux/guest_symbols.h"

namespace deja {

// Loads the symbols of the kernel that runs so far from where it was linked, and tells deja.py, which loads
// them again where the kernel runs elsewhere.
std::vector<std::string> kernel_symbol_commands(const std::filesystem::path& file, u64 slide);

// Those of programs, libraries and modules: loads what runs where it was linked, and tells deja.py, which
// looks for the others in the guest, the files of each build-id.
std::vector<std::string> file_symbol_commands(const std::vector<SymbolFile>& files);

// All of them, for gdb, before it connects.
std::vector<std::string> symbol_commands(const GuestSymbols& symbols);

}  // namespace deja
