// Guest time: a pure function of steps and warps at the fixed rate of the machine's configuration.
#pragma once

#include "base/types.h"

namespace deja {

struct Clock {
  Step steps = 0;       // now
  VtimeNs warp_ns = 0;  // total time skipped while every vCPU was halted
  // Nanoseconds per step = rate_num / rate_den; part of the machine configuration.
  u32 rate_num = 1;
  u32 rate_den = 1;

  VtimeNs at(Step s) const {
    return (rate_num == rate_den ? s : static_cast<VtimeNs>(u128{s} * rate_num / rate_den)) + warp_ns;
  }
  VtimeNs now() const { return at(steps); }
  // The first step at which now() >= t, assuming no further warp. kNeverStep for kNeverNs.
  Step first_step_at(VtimeNs t) const {
    if (t == kNeverNs) return kNeverStep;
    if (t <= warp_ns) return 0;
    if (rate_num == rate_den) return t - warp_ns;
    return static_cast<Step>((u128{t - warp_ns} * rate_den + rate_num - 1) / rate_num);
  }
};

}  // namespace deja
