// Makes test cases from seeds. Instructions are built as random but well-formed byte patterns (prefixes,
// opcode maps, ModRM, VEX), decoded with Zydis, and kept when the CPU model x86-64-v3 has them and user code
// may run them with a portable result. Then the state is chosen so that most memory operands hit the data
// pages, often at their ends, and displacements and branch targets are patched to suit.
#pragma once

#include "fuzz/test_case.h"

namespace deja::fuzz {

// With the `features` that can be added to the model, as far as the host has them; without, the case is the
// same on every host.
TestCase generate(u64 seed, bool features = true);

// The same test with only these instructions (indices into insns), branch targets and operands patched anew.
TestCase keep_only(const TestCase& test, const std::vector<unsigned>& indices);

}  // namespace deja::fuzz
