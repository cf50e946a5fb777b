#include "timeline/living_spaces.h"

namespace deja {
namespace {

constexpr u64 kUserTable = 1 << 12;  // PTI_USER_PGTABLE_BIT of arch/x86/include/asm/pgtable.h

bool left_behind(const CpuState& s) {
  return s.activity == Activity::wait_for_sipi || s.activity == Activity::shutdown ||
         (s.activity == Activity::halted && !(s.rflags & flag::IF));
}

}  // namespace

std::vector<GuestView> living_spaces(const Machine& machine) {
  std::vector<GuestView> spaces;
  const auto add = [&](unsigned vcpu) {
    const CpuState& s = machine.cpu(vcpu);
    if (!s.long_mode_active()) return;
    const GuestView space = GuestView::of_vcpu(machine, vcpu);
    spaces.push_back(space);
    if (s.cpl() == 3 && (space.table() & kUserTable))
      spaces.push_back(space.with_table(space.table() & ~kUserTable));
  };
  const auto turn = machine.next_vcpu();
  if (turn) add(*turn);
  for (unsigned i = 0; i < machine.vcpu_count(); ++i)
    if (i != turn && !left_behind(machine.cpu(i))) add(i);
  return spaces;
}

}  // namespace deja
