#include "gdb/symbol_setup.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "linux/kallsyms.h"
#include "linux/linear_memory.h"
#include "machine/bzimage.h"
#include "replay/position.h"
#include "replay/replay_access.h"
#include "sandbox/sandbox.h"

namespace deja {
namespace {

constexpr std::string_view kDebugFiles = "/usr/lib/debug";  // where Debian has them
constexpr unsigned kLooksAhead = 16;                        // at a recording, for where its kernel will be
constexpr u64 kUserEnd = u64{1} << 47;
// Entries of page tables that are looked at: a process that has 64 GiB has as many. One table that all
// entries of itself lead to has 2^35.
constexpr u64 kMostEntries = u64{1} << 24;
constexpr std::size_t kMostImages = 4096;

// Calls `page` with each mapped 4 KiB page of [0, 2^47), for 4-level paging; of large pages with the first.
// False from it: no more.
void each_user_page(Machine& machine, unsigned vcpu, const std::function<bool(Gva)>& page) {
  const PagingKey key = paging_key(machine.cpu(vcpu));
  if (!(key.bits & PagingKey::kLong)) return;
  constexpr u64 kPresent = 1, kLarge = 0x80, kAddress = 0x000ffffffffff000;
  u64 entries = 0;
  const std::function<bool(u64, unsigned, u64)> level = [&](u64 table, unsigned depth, u64 base) {
    const u64 size = u64{1} << (kPageShift + 9 * (3 - depth));
    for (u64 i = 0; i < 512; ++i) {
      const u64 linear = base + i * size;
      u64 entry = 0;
      if (++entries > kMostEntries) return false;
      if (linear >= kUserEnd || !machine.ram().read(Gpa(table + i * 8), &entry, 8)) return true;
      if (!(entry & kPresent)) continue;
      const bool is_page = depth == 3 || (entry & kLarge);
      if (!(is_page ? page(Gva(linear)) : level(entry & kAddress, depth + 1, linear))) return false;
    }
    return true;
  };
  level(key.cr3, 0, 0);
}

// The image whose header stands at `linear`.
std::optional<GuestImage> image_at(Machine& machine, const PagingKey& key, u64 linear) {
  std::vector<u8> page(kPageSize);
  if (!read_linear(machine, key, linear, page.data(), page.size())) return std::nullopt;
  Elf64_Ehdr h;
  std::memcpy(&h, page.data(), sizeof h);
  if (std::memcmp(h.e_ident, ELFMAG, SELFMAG) != 0 || h.e_machine != EM_X86_64 ||
      h.e_phentsize != sizeof(Elf64_Phdr) || h.e_phoff > page.size() ||
      (page.size() - h.e_phoff) / sizeof(Elf64_Phdr) < h.e_phnum)
    return std::nullopt;
  GuestImage image;
  image.base = linear;
  image.fixed_address = h.e_type == ET_EXEC;
  image.lowest = ~u64{0};
  std::vector<Elf64_Phdr> notes;
  for (unsigned i = 0; i < h.e_phnum; ++i) {
    Elf64_Phdr p;
    std::memcpy(&p, page.data() + h.e_phoff + i * sizeof p, sizeof p);
    if (p.p_type == PT_LOAD) image.lowest = std::min(image.lowest, p.p_vaddr);
    if (p.p_type == PT_NOTE) notes.push_back(p);
  }
  if (image.lowest == ~u64{0}) return std::nullopt;
  for (const Elf64_Phdr& p : notes) {
    std::vector<u8> bytes(std::min<u64>(p.p_memsz, kPageSize));
    if (!image.build_id.empty() ||
        !read_linear(machine, key, linear + p.p_vaddr - image.lowest, bytes.data(), bytes.size()))
      continue;
    image.build_id = build_id_in_notes(bytes);
  }
  return image;
}

// The kernel that was recorded: the ELF file itself, unpacked. What a bzImage loads need not be a packed
// Linux when the guest was to unpack it: then the file as it is, in which there are no symbols.
Result<std::vector<u8>> recorded_kernel(Navigator& nav) {
  for (const RecordedFile& input : nav.manifest().inputs) {
    if (input.role != "kernel") continue;
    DEJA_ASSIGN(LoadedFile file, recorded_file(nav.dir(), input, kMaxGuestFile));
    if (is_bzimage(file.bytes)) {
      DEJA_ASSIGN(const BzImage image, parse_bzimage(file.bytes));
      auto vmlinux = extract_vmlinux(image);
      if (vmlinux || nav.manifest().machine.boot_mode == "vmlinux") return vmlinux;
      log_info("symbols", "the recorded kernel has none: {}", vmlinux.error().message);
    }
    return std::move(file.bytes);
  }
  return std::vector<u8>();
}

// How far from where it was linked the kernel runs; before it does, that of the next one to be set up.
Result<u64> find_kernel_slide(Navigator& nav, const std::optional<KernelBanner>& banner) {
  if (!banner) return u64{0};
  Machine& machine = nav.machine();
  if (const auto place = find_kernel(machine, *banner)) return place->slide;
  bool fresh = nav.manifest().machine.boot_mode == "vmlinux";
  for (unsigned i = 0; i < machine.vcpu_count(); ++i) fresh = fresh && machine.cpu(i).msr.lstar == 0;
  if (fresh) return u64{0};  // nobody is there to move it
  const Step here = nav.position();
  std::optional<KernelPlace> place;
  for (unsigned i = 1; i <= kLooksAhead && !place; ++i) {
    DEJA_TRY(nav.seek(here + (nav.last() - here) / kLooksAhead * i));
    place = find_kernel(machine, *banner);
  }
  DEJA_TRY(nav.seek(here));
  return place ? place->slide : 0;
}

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

std::vector<GuestImage> guest_images(Machine& machine, unsigned vcpu) {
  const PagingKey key = paging_key(machine.cpu(vcpu));
  std::vector<GuestImage> images;
  each_user_page(machine, vcpu, [&](Gva page) {
    char magic[SELFMAG];
    const std::optional<Gpa> at = peek_translation(machine.ram(), key, page);
    if (!at || !machine.ram().read(*at, magic, sizeof magic) || std::memcmp(magic, ELFMAG, SELFMAG) != 0)
      return true;
    if (auto image = image_at(machine, key, page.value)) images.push_back(std::move(*image));
    return images.size() < kMostImages;
  });
  return images;
}

Status SymbolSetup::add_kernel(Navigator& nav, const std::vector<SymbolFile>& given) {
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
        "right "
        "file in the package linux-image-…-dbg of the same version",
        candidates[0].path.string(), candidates[0].info.build_id, id);
  }
  DEJA_ASSIGN(const std::vector<u8> bytes, read_whole_file(found->path));
  kernel_ = ElfSymbols::read(bytes);
  DEJA_ASSIGN(kernel_slide_, find_kernel_slide(nav, banner_));
  // The kernel's own gdb scripts lie beside it, when it was built here.
  commands_.push_back("add-auto-load-safe-path " + found->path.parent_path().string());
  for (std::string& command : kernel_symbol_commands(found->path, kernel_slide_))
    commands_.push_back(std::move(command));
  return {};
}

Status SymbolSetup::use_own_table(Navigator& nav, std::span<const u8> kernel) {
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

void allow_symbols(const std::vector<std::string>& where) {
  for (const std::string& place : where) sandbox::allow_read(place);
  sandbox::allow_read(kDebugFiles);
}

Result<GuestKernel> find_guest_kernel(Navigator& nav) {
  DEJA_ASSIGN(const std::vector<u8> kernel, recorded_kernel(nav));
  if (kernel.empty())
    return make_error("the kernel came from the guest's disk, not with --kernel: its symbols are not known");
  return GuestKernel::make(kernel, read_kallsyms(kernel));
}

Result<TaskList> make_task_list(Navigator& nav) {
  DEJA_ASSIGN(GuestKernel kernel, find_guest_kernel(nav));
  return TaskList::make(std::move(kernel));
}

Result<SymbolSetup> SymbolSetup::make(Navigator& nav, const std::vector<std::string>& where) {
  SymbolSetup setup;
  DEJA_ASSIGN(const std::vector<SymbolFile> files, find_symbol_files(where));
  DEJA_TRY(setup.add_kernel(nav, files));
  // A program and the debug file that was split off it have one build-id: both are of use, the one for
  // unwinding.
  std::map<std::string, std::string> by_build_id;
  for (const SymbolFile& f : files) {
    if (f.info.is_kernel) continue;
    const bool module = f.info.highest == 0;  // not linked: nothing of it has a place yet
    if (!module) setup.programs_.push_back(f);
    // What runs where it was linked needs no looking for. But of stripped programs there may be many.
    if (f.info.fixed_address && f.info.has_symbols)
      setup.commands_.push_back(fmt::format("add-symbol-file {} -o 0", quoted(f.path)));
    else if (!f.info.build_id.empty())
      by_build_id[f.info.build_id] += quoted(f.path) + ", ";
  }
  std::string table = "python deja_symbol_files = {";
  for (const auto& [id, paths] : by_build_id) table += fmt::format("'{}': [{}], ", id, paths);
  setup.commands_.push_back(table + "}");
  return setup;
}

bool SymbolSetup::kernel_moved(Machine& machine) const {
  const auto place = banner_ ? find_kernel(machine, *banner_) : std::nullopt;
  return place && place->slide != kernel_slide_;
}

std::string SymbolSetup::name_of(Machine& machine, unsigned vcpu, u64 address) {
  if (address >= kUserEnd) {
    const auto place = banner_ ? find_kernel(machine, *banner_) : std::nullopt;
    return kernel_.name_of(address - (place ? place->slide : kernel_slide_));
  }
  const auto symbols = [&](const SymbolFile& f) -> const ElfSymbols& {
    const auto [it, fresh] = read_.try_emplace(f.path.string());
    if (fresh)
      if (const auto bytes = read_whole_file(f.path)) it->second = ElfSymbols::read(bytes.value());
    return it->second;
  };
  if (programs_.empty()) return {};
  for (const GuestImage& image : guest_images(machine, vcpu)) {
    if (image.build_id.empty()) continue;
    for (const SymbolFile& f : programs_) {
      const u64 slide = image.base - image.lowest;
      if (f.info.build_id != image.build_id || address < f.info.lowest + slide ||
          address >= f.info.highest + slide)
        continue;
      if (std::string name = symbols(f).name_of(address - slide); !name.empty()) return name;
    }
  }
  for (const SymbolFile& f : programs_)
    if (f.info.fixed_address && address >= f.info.lowest && address < f.info.highest)
      if (std::string name = symbols(f).name_of(address); !name.empty()) return name;
  return {};
}

}  // namespace deja
