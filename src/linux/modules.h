// The modules that a Linux guest's kernel has loaded, as lsmod lists them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "linux/guest_kernel.h"

namespace deja {

struct GuestModule {
  std::string name;
  u64 base = 0, size = 0;  // of what stays of it after it was initialised
  i32 users = 0;
  std::string state;                                  // as /proc/modules has it
  std::vector<std::string> used_by;                   // other modules
  std::vector<std::pair<std::string, u64>> sections;  // .text and so on, and where they were put
  std::string build_id;                               // hexadecimal; empty: it has none
};

// Now, the latest first. Changes nothing. For Linux up to 6.3.
Result<std::vector<GuestModule>> read_modules(const GuestKernel& kernel, const Machine& machine);

}  // namespace deja
