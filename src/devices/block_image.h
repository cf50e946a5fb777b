// What a disk holds when the machine is switched on for the first time. It never changes: what the guest
// writes goes to a DiskOverlay.
#pragma once

#include <span>

#include "base/result.h"
#include "base/types.h"

namespace deja {

class BlockImage {
 public:
  virtual ~BlockImage() = default;
  // As the guest sees it, in bytes; need not be a multiple of the sector size.
  virtual u64 size() const = 0;
  // Fills `out` from `offset` on; what is beyond the end is zeros. An error is the host's trouble, never seen
  // by the guest: the machine stands still until the same read works.
  virtual Status read(u64 offset, std::span<u8> out) = 0;
};

}  // namespace deja
