#include "timeline/living_spaces.h"

namespace deja {
namespace {

constexpr u64 kUserTable = 1 << 12;  // PTI_USER_PGTABLE_BIT of arch/x86/include/asm/pgtable.h

bool left_behind(const CpuState& s) {
  return s.activity == Activity::wait_for_sipi || s.activity == Activity::shutdown ||
         (s.activity == Activity::halted && !(s.rflags & flag::IF));
}

}  // namespace

std::vector<PagingKey> living_spaces(const Machine& machine) {
  std::vector<PagingKey> spaces;
  const auto add = [&](const CpuState& s) {
    PagingKey space = paging_key(s);
    if (!(space.bits & PagingKey::kLong)) return;
    spaces.push_back(space);
    if (s.cpl() != 3 || !(space.cr3 & kUserTable)) return;
    space.cr3 &= ~kUserTable;
    spaces.push_back(space);
  };
  const auto turn = machine.next_vcpu();
  if (turn) add(machine.cpu(*turn));
  for (unsigned i = 0; i < machine.vcpu_count(); ++i)
    if (i != turn && !left_behind(machine.cpu(i))) add(machine.cpu(i));
  return spaces;
}

}  // namespace deja
