// Compares two results of one test.
#pragma once

#include <string>

#include "fuzz/test_case.h"

namespace deja::fuzz {

// Are flags that the manual leaves undefined the canonical ones on this host? The canonical value is what
// current Intel cores compute (docs/undefined-flags.md), so on such a host everything is compared; elsewhere
// undefined flags are masked, and tests that read one before it is defined again are not comparable.
bool host_has_canonical_flags();

struct Comparability {
  bool comparable = true;
  u64 flags = kFlagsCompared;  // RFLAGS bits to compare at the end
};
Comparability comparability(const TestCase& test, bool canonical_flags);

// What differs, one line each; empty when the results agree or cannot be compared.
std::string differences(const TestCase& test, const RunResult& a, const RunResult& b, const char* name_a,
                        const char* name_b);

// All registers, for a report.
std::string describe(const UserState& state);

}  // namespace deja::fuzz
