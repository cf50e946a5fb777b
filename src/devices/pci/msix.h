// MSI-X: a table of interrupt messages in a memory BAR (PCI Local Bus Specification 3.0, chapter 6.8.2).
#pragma once

#include <array>
#include <functional>

#include "base/archive.h"
#include "base/types.h"

namespace deja {

// Takes a message signalled interrupt: a 32-bit write to an address (SDM vol. 3A 10.11).
using MsiSink = std::function<void(u64 address, u32 data)>;

// The table and the pending bits. Enable and function mask are bits of the capability in configuration space,
// which the owner passes in.
class MsixTable {
 public:
  static constexpr unsigned kMaxVectors = 32;
  static constexpr u64 kEntrySize = 16;
  // Where the pending bits stand in the window that bar_read and bar_write see.
  static constexpr u64 kPendingOffset = 0x800;
  static constexpr u64 kWindowSize = 0x1000;

  MsixTable(unsigned vectors, MsiSink sink);

  unsigned vectors() const { return vectors_; }
  void reset();
  void save(StateWriter& w) const;
  bool restore(StateReader& r);

  u64 read(u64 offset, unsigned size) const;
  void write(u64 offset, u64 value, unsigned size, bool usable);

  // Sends the message of `vector`, or remembers that it waits. `usable`: MSI-X is enabled, not masked for the
  // whole function, and the function is a bus master.
  void raise(unsigned vector, bool usable);
  // The function became usable: sends what waits.
  void flush();

 private:
  struct Entry {
    u32 words[4];  // address, upper address, data, vector control (bit 0: masked)
  };
  bool masked(unsigned vector) const { return entries_[vector].words[3] & 1; }
  void send(unsigned vector);

  const unsigned vectors_;
  const MsiSink sink_;
  std::array<Entry, kMaxVectors> entries_{};
  u32 pending_ = 0;
};

}  // namespace deja
