// Who wrote these bytes: the last write before a moment, or every one, by whichever way it came.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "timeline/backward_search.h"
#include "timeline/guest_view.h"

namespace deja {

// Bytes of physical memory, by pieces that are contiguous there.
struct MemoryPiece {
  Gpa at;
  u64 size = 0;
};

// Where the bytes stand that a view shows at `address`. An error: some of it is not mapped, or not RAM.
Result<std::vector<MemoryPiece>> locate(const GuestView& memory, u64 address, u64 size);

// One write: all that one step did to the bytes.
struct Write {
  Step before = 0, after = 0;  // the last step at which it had not happened, the first at which it had
  std::optional<unsigned> vcpu;
  AccessCause cause = AccessCause::instruction;
  u64 offset = 0;  // of the first byte written from the start of what was asked for
  Gpa at;
  std::vector<u8> old_bytes, new_bytes;
  // The instruction, if a vCPU did it; of a delivery or a page walk the one it happened at.
  u64 rip = 0;  // linear
  u64 cr3 = 0;
  unsigned cpl = 0;
  std::string instruction;
  std::string symbol;  // where rip is, when somebody knows
};

struct WhoWrote {
  std::vector<MemoryPiece> pieces;
  Step at = 0;  // writes that the state at this step includes
  bool all = false;
  Interrupted interrupted;
  SearchWorkers* workers = nullptr;  // as in BackwardSearch
};

// Latest last. Empty: nobody since power-on. Leaves the machine anywhere.
Result<std::vector<Write>> who_wrote(Navigator& nav, const WhoWrote& request);

// "0x7ffd1000/8", "ffffffff82000000": the address in hexadecimal, the length 8 when none is given.
struct MemoryRange {
  u64 address = 0, size = 8;
};
Result<MemoryRange> parse_memory_range(std::string_view text);

// One line for people.
std::string describe(const Write& write);
// "instruction", "stack frame of an exception or interrupt"…
std::string_view cause_text(AccessCause cause);

}  // namespace deja
