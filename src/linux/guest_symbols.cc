#include "linux/guest_symbols.h"

#include <algorithm>

#include "linux/kallsyms.h"
#include "linux/recorded_kernel.h"
#include "sandbox/sandbox.h"

namespace deja {
namespace {

constexpr std::string_view kDebugFiles = "/usr/lib/debug";  // where Debian has them

}  // namespace

void allow_symbols(const std::vector<std::string>& where) {
  for (const std::string& place : where) sandbox::allow_read(place);
  sandbox::allow_read(kDebugFiles);
}

Status GuestSymbols::add_kernel(Navigator& nav, const std::vector<SymbolFile>& given) {
  DEJA_ASSIGN(const std::vector<u8> kernel, recorded_kernel(nav));
  banner_ = KernelBanner::find(kernel);
  const std::optional<ElfInfo> recorded = elf_info(kernel);
  std::vector<SymbolFile> candidates;
  for (const SymbolFile& f : given)
    if (f.info.is_kernel) candidates.push_back(f);
  if (!recorded || recorded->build_id.empty()) {
    if (candidates.empty()) return {};
    return make_error(
        "--symbols {}: the recorded kernel has no build-id, so nothing shows that this file is its",
        candidates[0].path.string());
  }
  const std::string& id = recorded->build_id;
  const std::filesystem::path debian =
      fmt::format("{}/.build-id/{}/{}.debug", kDebugFiles, id.substr(0, 2), id.substr(2));
  std::error_code ignored;
  if (std::filesystem::exists(debian, ignored)) {
    DEJA_ASSIGN(const std::vector<u8> bytes, read_whole_file(debian));
    if (const auto info = elf_info(bytes)) candidates.push_back({debian, *info});
  }
  const auto found = std::find_if(candidates.begin(), candidates.end(),
                                  [&](const SymbolFile& f) { return f.info.build_id == id; });
  if (found == candidates.end()) {
    if (candidates.empty()) return use_own_table(nav, kernel);
    return make_error(
        "--symbols {}: of another kernel: its build-id is {}, that of the recorded one {}; Debian has the "
        "right file in the package linux-image-…-dbg of the same version",
        candidates[0].path.string(), candidates[0].info.build_id, id);
  }
  DEJA_ASSIGN(const std::vector<u8> bytes, read_whole_file(found->path));
  kernel_ = ElfSymbols::read(bytes);
  DEJA_ASSIGN(kernel_slide_, find_kernel_slide(nav, banner_));
  kernel_file_ = found->path;
  return {};
}

Status GuestSymbols::use_own_table(Navigator& nav, std::span<const u8> kernel) {
  const std::vector<KernelSymbol> symbols = read_kallsyms(kernel);
  if (symbols.empty()) return {};
  std::vector<std::pair<u64, std::string>> names;
  names.reserve(symbols.size());
  for (const KernelSymbol& s : symbols) names.emplace_back(s.address, s.name);
  kernel_ = ElfSymbols::of(names);
  kernel_elf_ = symbols_as_elf(symbols);
  DEJA_ASSIGN(kernel_slide_, find_kernel_slide(nav, banner_));
  return {};
}

Result<GuestSymbols> GuestSymbols::make(Navigator& nav, const std::vector<std::string>& where) {
  GuestSymbols symbols;
  DEJA_ASSIGN(const std::vector<SymbolFile> files, find_symbol_files(where));
  DEJA_TRY(symbols.add_kernel(nav, files));
  for (const SymbolFile& f : files)
    if (!f.info.is_kernel) symbols.files_.push_back(f);
  return symbols;
}

bool GuestSymbols::kernel_moved(const Machine& machine) const {
  const auto place = banner_ ? find_kernel(machine, *banner_) : std::nullopt;
  return place && place->slide != kernel_slide_;
}

// A step has one state, so what was seen at it holds whenever the machine stands there.
GuestSymbols::Sight& GuestSymbols::sight(const GuestView& memory) {
  const Step step = memory.machine().clock().steps;
  if (sight_.step == step && sight_.table == memory.table()) return sight_;
  const auto place = banner_ ? find_kernel(memory.machine(), *banner_) : std::nullopt;
  return sight_ = {step, memory.table(), place ? place->slide : kernel_slide_, {}};
}

const ElfSymbols& GuestSymbols::symbols_of(const SymbolFile& file) {
  const auto [it, fresh] = read_.try_emplace(file.path.string());
  if (fresh)
    if (const auto bytes = read_whole_file(file.path)) it->second = ElfSymbols::read(bytes.value());
  return it->second;
}

std::string GuestSymbols::name_in_images(const GuestView& memory, u64 address) {
  std::optional<std::vector<GuestImage>>& images = sight(memory).images;
  if (!images) images = guest_images(memory);
  for (const GuestImage& image : *images) {
    if (image.build_id.empty()) continue;
    const u64 slide = image.base - image.lowest;
    for (const SymbolFile& f : files_)
      if (f.info.build_id == image.build_id && address >= f.info.lowest + slide &&
          address < f.info.highest + slide)
        if (std::string name = symbols_of(f).name_of(address - slide); !name.empty()) return name;
  }
  return {};
}

std::string GuestSymbols::name_of(const GuestView& memory, u64 address) {
  if (address >= kUserEnd) return kernel_.name_of(address - sight(memory).kernel_slide);
  if (files_.empty()) return {};
  if (std::string name = name_in_images(memory, address); !name.empty()) return name;
  for (const SymbolFile& f : files_)
    if (f.info.fixed_address && address >= f.info.lowest && address < f.info.highest)
      if (std::string name = symbols_of(f).name_of(address); !name.empty()) return name;
  return {};
}

}  // namespace deja
