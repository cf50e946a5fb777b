#include "linux/modules.h"

#include <algorithm>

#include "linux/elf_symbols.h"

namespace deja {
namespace {

constexpr std::size_t kMostModules = 1 << 12;  // more is a loop
constexpr std::size_t kMostUses = 1 << 16;     // of all modules together, likewise
constexpr std::size_t kNameBytes = 56;         // MODULE_NAME_LEN
constexpr std::size_t kMostSections = 1 << 8;
constexpr std::size_t kSectionNameBytes = 64;
constexpr u64 kNoteBytes = 36;  // of a build-id: header, "GNU", SHA-1
constexpr i32 kOwnUse = 1;      // MODULE_REF_BASE
constexpr const char* kStates[] = {"Live", "Loading", "Unloading", "Unformed"};

// Where a module's sections are, which it tells in /sys/module/NAME/sections. Left out where a kernel has no
// sysfs.
class SectionReader {
 public:
  static Result<SectionReader> of(const Btf& types) {
    SectionReader r;
    DEJA_ASSIGN(r.attributes_, types.offset_of("module", "sect_attrs"));
    DEJA_ASSIGN(r.count_, types.offset_of("module_sect_attrs", "nsections"));
    DEJA_ASSIGN(r.first_, types.offset_of("module_sect_attrs", "attrs"));
    DEJA_ASSIGN(r.size_, types.size_of("module_sect_attr"));
    DEJA_ASSIGN(r.address_, types.offset_of("module_sect_attr", "address"));
    DEJA_ASSIGN(const u32 binary, types.offset_of("module_sect_attr", "battr"));
    DEJA_ASSIGN(const u32 attribute, types.offset_of("bin_attribute", "attr"));
    DEJA_ASSIGN(const u32 name, types.offset_of("attribute", "name"));
    r.name_ = binary + attribute + name;
    return r;
  }

  void read(const GuestView& guest, u64 module, GuestModule* out) const {
    u64 all = 0;
    u32 count = 0;
    if (!guest.value(module + attributes_, &all) || !all || !guest.value(all + count_, &count)) return;
    for (u64 i = 0; i < std::min<u64>(count, kMostSections); ++i) {
      const u64 at = all + first_ + i * size_;
      u64 name = 0, address = 0;
      if (!guest.value(at + name_, &name) || !guest.value(at + address_, &address)) return;
      std::optional<std::string> text = guest.text(name, kSectionNameBytes);
      if (!text) return;
      if (*text == ".note.gnu.build-id") {
        std::vector<u8> note(kNoteBytes);
        if (guest.read(address, note.data(), note.size())) out->build_id = build_id_in_notes(note);
      }
      out->sections.emplace_back(std::move(*text), address);
    }
  }

 private:
  u32 attributes_ = 0, count_ = 0, first_ = 0, size_ = 0, address_ = 0, name_ = 0;
};

}  // namespace

Result<std::vector<GuestModule>> read_modules(const GuestKernel& kernel, const Machine& machine) {
  const Btf& types = kernel.types();
  DEJA_ASSIGN(const RunningKernel running, kernel.at_this_moment(machine));
  DEJA_ASSIGN(const u64 head, running.address_of("modules"));
  DEJA_ASSIGN(const u32 list, types.offset_of("module", "list"));
  DEJA_ASSIGN(const u32 name, types.offset_of("module", "name"));
  DEJA_ASSIGN(const u32 state, types.offset_of("module", "state"));
  DEJA_ASSIGN(const u32 users, types.offset_of("module", "refcnt"));
  DEJA_ASSIGN(const u32 uses, types.offset_of("module", "source_list"));
  DEJA_ASSIGN(const u32 use_list, types.offset_of("module_use", "source_list"));
  DEJA_ASSIGN(const u32 use_source, types.offset_of("module_use", "source"));
  DEJA_ASSIGN(const u32 layout, types.offset_of("module", "core_layout"));
  DEJA_ASSIGN(const u32 base, types.offset_of("module_layout", "base"));
  DEJA_ASSIGN(const u32 size, types.offset_of("module_layout", "size"));
  const auto sections = SectionReader::of(types);
  const GuestView& guest = running.memory();

  std::vector<GuestModule> modules;
  std::size_t uses_read = 0;
  u64 at = 0;
  for (bool sound = guest.value(head, &at) && at; sound && at != head && modules.size() < kMostModules;
       sound = guest.value(at, &at)) {
    const u64 module = at - list;
    GuestModule m;
    u32 bytes = 0, how = 0;
    const std::optional<std::string> own_name = guest.text(module + name, kNameBytes);
    if (!own_name || !guest.value(module + layout + base, &m.base) ||
        !guest.value(module + layout + size, &bytes) || !guest.value(module + state, &how) ||
        !guest.value(module + users, &m.users))
      break;
    m.name = *own_name;
    m.size = bytes;
    m.users = static_cast<i32>(i64{m.users} - kOwnUse);
    m.state = how < std::size(kStates) ? kStates[how] : "Unknown";
    if (sections) sections.value().read(guest, module, &m);
    u64 use = 0;
    for (bool more = guest.value(module + uses, &use); more && use != module + uses && uses_read < kMostUses;
         more = guest.value(use, &use), ++uses_read) {
      u64 source = 0;
      if (!guest.value(use - use_list + use_source, &source)) break;
      std::optional<std::string> other = guest.text(source + name, kNameBytes);
      if (!other) break;
      m.used_by.push_back(std::move(*other));
    }
    modules.push_back(std::move(m));
  }
  return modules;
}

}  // namespace deja
