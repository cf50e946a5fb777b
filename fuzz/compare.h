// Compares two results of one test.
#pragma once

#include <string>

#include "decode/insn.h"
#include "fuzz/test_case.h"

namespace deja::fuzz {

// What differs, one line each; empty when the results agree or cannot be compared.
std::string differences(const TestCase& test, const RunResult& a, const RunResult& b, const char* name_a,
                        const char* name_b);

// The instruction that a run ended at; its mnemonic is ZYDIS_MNEMONIC_INVALID when there is none.
Insn last_insn(const TestCase& test, const RunResult& result);

// All registers, for a report.
std::string describe(const UserState& state);

}  // namespace deja::fuzz
