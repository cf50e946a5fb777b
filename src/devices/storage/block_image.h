// The content of a disk when the machine is first switched on. It never changes: the guest's writes go to a
// DiskOverlay.
#pragma once

#include <span>

#include "base/result.h"
#include "base/types.h"

namespace deja {

class BlockImage {
 public:
  virtual ~BlockImage() = default;
  // The disk's size as the guest sees it, in bytes; need not be a multiple of the sector size.
  virtual u64 size() const = 0;
  // Fills `out` from `offset` on, with zeros beyond the end. An error is the host's trouble, never seen
  // by the guest: the machine stands still until the same read works.
  virtual Status read(u64 offset, std::span<u8> out) = 0;
};

}  // namespace deja
