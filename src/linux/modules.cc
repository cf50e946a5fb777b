#include "linux/modules.h"

namespace deja {
namespace {

constexpr std::size_t kMostModules = 1 << 14;  // more is a loop
constexpr std::size_t kNameBytes = 56;         // MODULE_NAME_LEN
constexpr i32 kOwnUse = 1;                     // MODULE_REF_BASE
constexpr const char* kStates[] = {"Live", "Loading", "Unloading", "Unformed"};

}  // namespace

Result<std::vector<GuestModule>> read_modules(const GuestKernel& kernel, Machine& machine) {
  const Btf& types = kernel.types();
  DEJA_ASSIGN(const u64 head, kernel.address_of("modules"));
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
  DEJA_ASSIGN(const PagingKey key, kernel.address_space(machine));
  const GuestReader guest(machine, key);

  std::vector<GuestModule> modules;
  u64 at = 0;
  for (bool sound = guest.value(head, &at) && at; sound && at != head && modules.size() < kMostModules;
       sound = guest.value(at, &at)) {
    const u64 module = at - list;
    GuestModule m;
    u32 bytes = 0, how = 0;
    if (!guest.text(module + name, kNameBytes, &m.name) || !guest.value(module + layout + base, &m.base) ||
        !guest.value(module + layout + size, &bytes) || !guest.value(module + state, &how) ||
        !guest.value(module + users, &m.users))
      break;
    m.size = bytes;
    m.users -= kOwnUse;
    m.state = how < std::size(kStates) ? kStates[how] : "Unknown";
    u64 use = 0;
    for (bool more = guest.value(module + uses, &use);
         more && use != module + uses && m.used_by.size() < kMostModules; more = guest.value(use, &use)) {
      u64 source = 0;
      std::string other;
      if (!guest.value(use - use_list + use_source, &source) ||
          !guest.text(source + name, kNameBytes, &other))
        break;
      m.used_by.push_back(std::move(other));
    }
    modules.push_back(std::move(m));
  }
  return modules;
}

}  // namespace deja
