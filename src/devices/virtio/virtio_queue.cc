#include "devices/virtio/virtio_queue.h"

#include <algorithm>
#include <bit>

namespace deja {
namespace {

struct Descriptor {
  u64 address;
  u32 size;
  u16 flags;
  u16 next;
};
static_assert(sizeof(Descriptor) == 16);
constexpr u16 kNext = 1, kWrite = 2, kIndirect = 4;
constexpr u16 kNoInterrupt = 1;  // flags of the driver's ring

struct UsedElement {
  u32 id;
  u32 size;
};

template <class Each>
bool for_pieces(const std::vector<VirtioSegment>& list, u64 offset, u64 size, Each each) {
  for (const VirtioSegment& s : list) {
    if (size == 0) break;
    if (offset >= s.size) {
      offset -= s.size;
      continue;
    }
    const u64 n = std::min<u64>(size, s.size - offset);
    if (!each(s.address + offset, n)) return false;
    size -= n;
    offset = 0;
  }
  return size == 0;
}

}  // namespace

bool read_segments(const GuestRam& ram, const std::vector<VirtioSegment>& list, u64 offset, void* out,
                   u64 size) {
  u8* to = static_cast<u8*>(out);
  return for_pieces(list, offset, size, [&](Gpa at, u64 n) {
    const bool ok = ram.read(at, to, n);
    to += n;
    return ok;
  });
}

bool write_segments(GuestRam& ram, const std::vector<VirtioSegment>& list, u64 offset, const void* data,
                    u64 size) {
  const u8* from = static_cast<const u8*>(data);
  return for_pieces(list, offset, size, [&](Gpa at, u64 n) {
    const bool ok = ram.write(at, from, n);
    from += n;
    return ok;
  });
}

void VirtioQueue::reset() {
  state = State{};
  state.size = max_size_;
}

void VirtioQueue::save(StateWriter& w) const {
  w.field(state.size), w.field(state.vector), w.field(state.enabled);
  w.field(state.descriptors), w.field(state.driver), w.field(state.device);
  w.field(state.next_available), w.field(state.next_used), w.field(state.signalled);
  w.field(state.ever_signalled);
}

bool VirtioQueue::restore(StateReader& r) {
  r.field(state.size), r.field(state.vector), r.field(state.enabled);
  r.field(state.descriptors), r.field(state.driver), r.field(state.device);
  r.field(state.next_available), r.field(state.next_used), r.field(state.signalled);
  r.field(state.ever_signalled);
  return r.ok() && std::has_single_bit(state.size) && state.size <= max_size_;
}

bool VirtioQueue::has_available(const GuestRam& ram) const {
  u16 index = 0;
  return state.enabled && ram.read(Gpa(state.driver + 2), &index, 2) && index != state.next_available;
}

VirtioQueue::Pop VirtioQueue::pop(const GuestRam& ram, VirtioChain* chain) {
  *chain = {};
  u16 index = 0;
  if (!state.enabled) return Pop::empty;
  if (!ram.read(Gpa(state.driver + 2), &index, 2)) return Pop::broken;
  if (index == state.next_available) return Pop::empty;
  // More requests than the ring has room for.
  if (static_cast<u16>(index - state.next_available) > state.size) return Pop::broken;
  const u64 slot = state.next_available & (state.size - 1);
  if (!ram.read(Gpa(state.driver + 4 + 2 * slot), &chain->head, 2)) return Pop::broken;
  const Pop result = add_chain(ram, Gpa(state.descriptors), state.size, chain->head, false, chain);
  if (result == Pop::chain) ++state.next_available;
  return result;
}

VirtioQueue::Pop VirtioQueue::add_chain(const GuestRam& ram, Gpa table, u32 count, u16 first, bool indirect,
                                        VirtioChain* chain) const {
  u32 index = first;
  // A chain without a loop visits each descriptor at most once.
  for (u32 visited = 0; visited < count; ++visited) {
    Descriptor d;
    if (index >= count || !ram.read(table + u64{index} * sizeof d, &d, sizeof d)) return Pop::broken;
    if (d.flags & kIndirect) {
      // Not inside an indirect table, and not together with a next one (2.7.5.3.1).
      const u32 entries = d.size / sizeof(Descriptor);
      if (indirect || (d.flags & kNext) || d.size % sizeof(Descriptor) || entries == 0 ||
          entries > kMaxDescriptors)
        return Pop::broken;
      return add_chain(ram, Gpa(d.address), entries, 0, true, chain);
    }
    auto& list = d.flags & kWrite ? chain->writable : chain->readable;
    auto& bytes = d.flags & kWrite ? chain->writable_bytes : chain->readable_bytes;
    if (!(d.flags & kWrite) && !chain->writable.empty()) return Pop::broken;
    if (d.size == 0 || !ram.contains(Gpa(d.address), d.size)) return Pop::broken;
    list.push_back({Gpa(d.address), d.size});
    bytes += d.size;
    if (chain->readable_bytes + chain->writable_bytes > kMaxBytes ||
        chain->readable.size() + chain->writable.size() > kMaxDescriptors)
      return Pop::broken;
    if (!(d.flags & kNext)) return Pop::chain;
    index = d.next;
  }
  return Pop::broken;
}

bool VirtioQueue::push(GuestRam& ram, u16 head, u32 written) {
  const UsedElement element{head, written};
  const u64 slot = state.next_used & (state.size - 1);
  if (!ram.write(Gpa(state.device + 4 + sizeof element * slot), &element, sizeof element)) return false;
  ++state.next_used;
  return ram.write(Gpa(state.device + 2), &state.next_used, 2);
}

bool VirtioQueue::should_signal(const GuestRam& ram, bool event_index) {
  const u16 before = state.signalled, now = state.next_used;
  if (state.ever_signalled && before == now) return false;
  const bool first = !state.ever_signalled;
  state.signalled = now;
  state.ever_signalled = true;
  if (!event_index) {
    u16 flags = 0;
    return ram.read(Gpa(state.driver), &flags, 2) && !(flags & kNoInterrupt);
  }
  u16 event = 0;
  if (!ram.read(Gpa(state.driver + 4 + 2 * u64{state.size}), &event, 2)) return false;
  // vring_need_event of section 2.7.7.2: has the index moved past `event`?
  return first || static_cast<u16>(now - event - 1) < static_cast<u16>(now - before);
}

bool VirtioQueue::ask_for_notification(GuestRam& ram) {
  return ram.write(Gpa(state.device + 4 + sizeof(UsedElement) * u64{state.size}), &state.next_available, 2);
}

}  // namespace deja
