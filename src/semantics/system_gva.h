#pragma once

#include "base/types.h"

namespace deja {

// A linear address that the processor itself accesses: of a descriptor table, the TSS, or a stack of 64-bit
// code that an event or a call gate pushes onto. In IA-32e mode it has 64 bits, whatever the current code
// segment is (SDM vol. 3A 5.8.3.1, 6.14), in other modes 32. A Gva given to an Mmu is an operand of the
// instruction: it has 64 bits in 64-bit mode only. Where an address has 32 bits, what reaches beyond 4 GiB
// goes on at 0.
struct SystemGva {
  u64 value = 0;
  constexpr SystemGva() = default;
  constexpr explicit SystemGva(u64 v) : value(v) {}
  constexpr auto operator<=>(const SystemGva&) const = default;
  constexpr SystemGva operator+(u64 d) const { return SystemGva(value + d); }
};

}  // namespace deja
