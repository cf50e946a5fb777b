// The delivery of an interrupt or exception at which a vCPU had what it goes on with afterwards.
#pragma once

#include <array>

#include "timeline/hit_filter.h"

namespace deja {

struct Interruption {
  u32 vcpu = 0;
  u64 rip = 0, cr3 = 0;
  std::array<u64, 16> gpr = {};

  // `resumed`: the vCPU behind the IRET.
  static Interruption of(const CpuState& resumed, unsigned vcpu);
  // Whether the machine stands right behind that delivery.
  bool is_at(const Machine& machine, const Hit& hit) const;
  HitFilter filter() const;
};

}  // namespace deja
