// A file of checkpoints whose beginning falls away: a copy of the rest of it that stands by itself.
#pragma once

#include <functional>

#include "checkpoint/checkpoint_reader.h"

namespace deja {

struct RebaseRequest {
  std::size_t base = 0;    // the checkpoint that is to be the first
  u64 opening_events = 0;  // that the log of the copy has at the base's step
};

struct RebaseReport {
  std::vector<u32> new_numbers;  // of each content by its old number; 0: it is not in the copy
  u32 next_number = kFirstStoredPage;
  u64 records = 0;
};

// Hands the records of a copy, from behind the file header, piece by piece to `to`. Its first one holds all
// of RAM and of what was written to disks, and no event lies before it. `from`: without damage, and beginning
// with a checkpoint that holds all as well. An error: of `to`, or the file cannot be read.
Result<RebaseReport> rebase_checkpoints(const CheckpointReader& from, const RebaseRequest& request,
                                        const std::function<Status(std::string_view)>& to);

}  // namespace deja
