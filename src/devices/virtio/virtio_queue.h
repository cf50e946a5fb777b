// A split virtqueue, from the device's side (virtio 1.2 section 2.7). Everything in guest memory may be
// wrong, or change while it is looked at: each field is read once, every count has a bound, and what makes no
// sense breaks the queue, never the monitor.
#pragma once

#include <vector>

#include "base/archive.h"
#include "guest/ram.h"

namespace deja {

inline constexpr u16 kVirtioNoVector = 0xffff;

// A piece of guest memory that a request consists of.
struct VirtioSegment {
  Gpa address;
  u32 size = 0;
};

// One request, as the driver put it together.
struct VirtioChain {
  u16 head = 0;
  std::vector<VirtioSegment> readable;  // by the device
  std::vector<VirtioSegment> writable;  // all after the readable ones
  u64 readable_bytes = 0, writable_bytes = 0;
};

// Copies between a list of segments and a buffer; `offset` counts from the start of the list. False when any
// byte is not RAM or beyond the list's end.
bool read_segments(const GuestRam& ram, const std::vector<VirtioSegment>& list, u64 offset, void* out,
                   u64 size);
bool write_segments(GuestRam& ram, const std::vector<VirtioSegment>& list, u64 offset, const void* data,
                    u64 size);

class VirtioQueue {
 public:
  // More than any driver needs; a chain with more descriptors or bytes breaks the queue.
  static constexpr unsigned kMaxDescriptors = 1024;
  static constexpr u64 kMaxBytes = 64_MiB;

  struct State {
    u16 size = 0;  // a power of two
    u16 vector = kVirtioNoVector;
    bool enabled = false;
    u64 descriptors = 0, driver = 0, device = 0;  // guest physical addresses of the three parts
    u16 next_available = 0;                       // index in the driver's ring
    u16 next_used = 0;                            // index in the device's
    u16 signalled = 0;                            // next_used when the driver was last told
    bool ever_signalled = false;
  };

  explicit VirtioQueue(u16 max_size) : max_size_(max_size) { reset(); }

  u16 max_size() const { return max_size_; }
  void reset();
  void save(StateWriter& w) const;
  bool restore(StateReader& r);

  enum class Pop { empty, chain, broken };
  // Takes the next request.
  Pop pop(const GuestRam& ram, VirtioChain* chain);
  // Takes back the last pop, so that it happens again.
  void unpop() { --state.next_available; }
  // Gives a request back; `written`: bytes written to its writable part. False: the ring is not in RAM.
  bool push(GuestRam& ram, u16 head, u32 written);
  bool has_available(const GuestRam& ram) const;
  // Does the driver want to be told of what was pushed since the last time? Counts as having told it.
  bool should_signal(const GuestRam& ram, bool event_index);
  // With event indices: says at which request the driver shall notify next.
  bool ask_for_notification(GuestRam& ram);

  State state;

 private:
  Pop add_chain(const GuestRam& ram, Gpa table, u32 count, u16 first, bool indirect,
                VirtioChain* chain) const;

  const u16 max_size_;
};

}  // namespace deja
