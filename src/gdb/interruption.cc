#include "gdb/interruption.h"

#include <algorithm>

namespace deja {

template <class A>
void serialize(A& a, Interruption& i) {
  a.field(i.vcpu);
  a.field(i.rip);
  a.field(i.cr3);
  a.field(i.gpr);
}

namespace {

constexpr u32 kVersion = 1;

const HitFilterKind kInterruptions{
    "interruption-of", [](const ValueBytes& parameters) -> Result<HitTest> {
      DEJA_ASSIGN(const Interruption wanted,
                  from_bytes<Interruption>(kVersion, "an interrupted context", parameters));
      return HitTest([wanted](Machine& m, const Hit& hit) { return wanted.is_at(m, hit); });
    }};

}  // namespace

Interruption Interruption::of(const CpuState& resumed, unsigned vcpu) {
  Interruption i{vcpu, resumed.rip, resumed.cr3, {}};
  static_assert(std::size(CpuState{}.gpr) == std::tuple_size_v<decltype(i.gpr)>);
  std::copy(std::begin(resumed.gpr), std::end(resumed.gpr), i.gpr.begin());
  return i;
}

bool Interruption::is_at(const Machine& machine, const Hit& hit) const {
  if (hit.vcpu != vcpu || hit.rip != rip || hit.cr3 != cr3) return false;
  // A delivery changes no general register but RSP.
  std::array<u64, 16> then;
  std::copy(std::begin(machine.cpu(vcpu).gpr), std::end(machine.cpu(vcpu).gpr), then.begin());
  then[RSP] = hit.rsp;
  return then == gpr;
}

HitFilter Interruption::filter() const {
  return {std::string(kInterruptions.name()), to_bytes(kVersion, *this)};
}

}  // namespace deja
