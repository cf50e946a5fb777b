// Which linear addresses are canonical (SDM vol. 1 3.3.7.1): the one place that knows how many bits they
// have.
#pragma once

#include "guest/cpu_state.h"

namespace deja {

// With four levels of page tables, which is all that the CPU models have. Five levels make it 57 under
// CR4.LA57: then linear_bits() looks there, and CpuModel::linear_bits says which of the two a model has.
inline constexpr unsigned kLinearBits = 48;
// Programs of Linux are below; the kernel is in the upper half.
inline constexpr u64 kUserEnd = u64{1} << (kLinearBits - 1);

// Bits of the addresses that a vCPU's code can use. MSRs and the bases of tables and segments take what the
// model has, whatever the mode is: CpuModel::linear_bits.
[[gnu::always_inline]] constexpr unsigned linear_bits(const CpuState&) { return kLinearBits; }

[[gnu::always_inline]] constexpr bool is_canonical(u64 address, unsigned bits) {
  return sign_extend(address, bits) == address;
}
[[gnu::always_inline]] constexpr bool is_canonical(const CpuState& s, u64 address) {
  return is_canonical(address, linear_bits(s));
}
// Whether `size` bytes, 1 at the least, lie within one half; they may touch both ends of the address space.
[[gnu::always_inline]] constexpr bool is_canonical(const CpuState& s, u64 first, u64 size) {
  return is_canonical(s, first) && is_canonical(s, first + size - 1);
}

}  // namespace deja
