// The registers of a vCPU as gdb numbers and describes them: amd64 with SSE, AVX and segment bases, and a
// feature of our own with what only a system has.
#pragma once

#include <string>
#include <string_view>

#include "guest/cpu_state.h"

namespace deja {

// A vCPU at a moment: the state, and what of its registers lives elsewhere.
struct GdbCpu {
  const CpuState& state;
  u64 cr8 = 0;
  Step step = 0;
};

// gdb thinks in linear addresses: where the code segment has a base, RIP comes with it added.
unsigned gdb_register_count();
// Bytes of register `n`, which is below the count, in the guest's byte order.
std::string gdb_register(const GdbCpu& cpu, unsigned n);
// All of them, in order: the g packet's.
std::string gdb_registers(const GdbCpu& cpu);
// The value of a register no wider than 64 bits; what conditions of breakpoints read.
bool gdb_register_value(const GdbCpu& cpu, u64 n, u64* value);

// The target description: qXfer:features:read:target.xml.
const std::string& gdb_target_xml();

}  // namespace deja
