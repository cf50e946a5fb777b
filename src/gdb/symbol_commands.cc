#include "gdb/symbol_commands.h"

#include <map>

#include <fmt/format.h>

namespace deja {
namespace {

// As gdb and Python both read it. There is no line break in it (find_symbol_files).
std::string quoted(const std::filesystem::path& path) {
  std::string s = "\"";
  for (const char c : path.string()) {
    if (c == '"' || c == '\\') s.push_back('\\');
    s.push_back(c);
  }
  return s + "\"";
}

}  // namespace

std::vector<std::string> kernel_symbol_commands(const std::filesystem::path& file, u64 slide) {
  // In hexadecimal, so that no character of it is one of Python's.
  std::string hex;
  for (const char c : file.string()) hex += fmt::format("{:02x}", static_cast<u8>(c));
  return {fmt::format("symbol-file {} -o {:#x}", quoted(file), slide),
          fmt::format("python deja_kernel_file, deja_kernel_slide = bytes.fromhex('{}').decode(errors="
                      "'surrogateescape'), {:#x}",
                      hex, slide)};
}

std::vector<std::string> file_symbol_commands(const std::vector<SymbolFile>& files) {
  std::vector<std::string> commands;
  // A program and the debug file that was split off it have one build-id: both are of use, the one for
  // unwinding.
  std::map<std::string, std::string> by_build_id;
  for (const SymbolFile& f : files) {
    // What runs where it was linked needs no looking for. But of stripped programs there may be many.
    if (f.info.fixed_address && f.info.has_symbols)
      commands.push_back(fmt::format("add-symbol-file {} -o 0", quoted(f.path)));
    else if (!f.info.build_id.empty())
      by_build_id[f.info.build_id] += quoted(f.path) + ", ";
  }
  std::string table = "python deja_symbol_files = {";
  for (const auto& [id, paths] : by_build_id) table += fmt::format("'{}': [{}], ", id, paths);
  commands.push_back(table + "}");
  return commands;
}

std::vector<std::string> symbol_commands(const GuestSymbols& symbols) {
  std::vector<std::string> commands;
  const auto add = [&](const std::vector<std::string>& more) {
    commands.insert(commands.end(), more.begin(), more.end());
  };
  if (const std::filesystem::path& kernel = symbols.kernel_file(); !kernel.empty()) {
    // The kernel's own gdb scripts lie beside it, when it was built here.
    commands.push_back("add-auto-load-safe-path " + kernel.parent_path().string());
    add(kernel_symbol_commands(kernel, symbols.kernel_slide()));
  }
  add(file_symbol_commands(symbols.files()));
  return commands;
}

}  // namespace deja
