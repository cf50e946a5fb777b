// One conformance test: a short sequence of user-mode 64-bit instructions with all the state they start from,
// and what running it gave. The same on the host CPU (native.h) and in the engine (engine_adapter.h).
#pragma once

#include <array>
#include <string>
#include <vector>

#include "base/types.h"
#include "guest/cpu_state.h"

namespace deja::fuzz {

// Linear addresses, the same natively and in the guest. Nothing else is mapped near them: the pages before
// and after each region are guards. Code is readable and executable, INT3 (CCh) wherever the test has no
// instruction; data is readable and writable.
inline constexpr u64 kCodeAddress = 0x10000000;
inline constexpr u64 kDataAddress = 0x20000000;
inline constexpr u64 kCodeSize = 2 * kPageSize;
inline constexpr u64 kDataSize = 2 * kPageSize;
inline constexpr u64 kFsBase = kDataAddress + 0x400;
inline constexpr u64 kGsBase = kDataAddress + 0xc00;

// RFLAGS bits that a test sees: the rest (IF, IOPL, RF, VIF, VIP) belongs to the surroundings. PUSHF shows IF
// and IOPL, so the engine runs the test with IF = 1 and IOPL = 0, as Linux does.
inline constexpr u64 kFlagsCompared = flag::kStatus | flag::TF | flag::DF | flag::NT | flag::AC | flag::ID;

inline constexpr u64 kLastUserPage = 0x7ffffffff000;  // which Linux leaves unmapped

struct UserState {
  u64 gpr[16] = {};
  u64 rip = 0;
  u64 rflags = flag::kReserved1 | flag::IF;
  FpuState fpu;
};

using Bytes = std::vector<u8>;

struct TestCase {
  u64 seed = 0;
  std::vector<Bytes> insns;
  u64 start = kCodeAddress;  // linear address of the first instruction
  UserState initial;         // rip = start
  std::array<u8, kDataSize> data{};

  // The instructions one after another, then the sentinel INT3.
  Bytes code() const;
  u64 end() const;  // address of the sentinel
};

enum class End : u8 {
  sentinel,  // ran to the INT3 at the end
  fault,     // an exception
  timeout,   // looped: not comparable
  excluded,  // did what user code may not do here (a system call, reached by a jump): not comparable
};

struct RunResult {
  End end = End::excluded;
  u8 vector = 0;    // End::fault: exception vector
  u64 error = 0;    // #PF only, otherwise 0: the error code
  u64 cr2 = 0;      // #PF only, otherwise 0
  UserState state;  // rip: sentinel or faulting instruction, as an exception handler sees it
  std::array<u8, kDataSize> data{};
};

std::string disassembly(const TestCase& test);

}  // namespace deja::fuzz
