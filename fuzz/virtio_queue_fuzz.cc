// A virtqueue by itself, over memory that is nothing but noise and edges: whatever chain comes out is inside
// memory and within the bounds that devices rely on.
#include "base/check.h"
#include "devices/virtio/virtio_queue.h"
#include "fuzz/target.h"

namespace deja::fuzz {
namespace {

constexpr u64 kRam = 1_MiB;

u64 check_list(const GuestRam& ram, const std::vector<VirtioSegment>& list) {
  u64 sum = 0;
  for (const VirtioSegment& s : list) {
    DEJA_CHECK(s.size > 0 && ram.contains(s.address, s.size), "a piece outside memory");
    sum += s.size;
  }
  return sum;
}

}  // namespace

void run_case(Random& random) {
  const std::unique_ptr<GuestRam> ram = GuestRam::create(kRam).value();
  // Descriptors, as some driver might have left them, all over the first pages.
  for (u64 at = 0; at < 0x4000; at += 16) {
    const u64 address = random.one_in(6) ? random.edgy() : random.below(0x4400);
    const u32 size = static_cast<u32>(random.one_in(6) ? random.edgy() : 16 * random.below(70));
    const u16 flags =
        static_cast<u16>(random.one_in(30) ? random() : random.pick<u64>({0, 1, 1, 1, 2, 3, 3, 4}));
    const u16 next = static_cast<u16>(random.one_in(30) ? random() : random.below(300));
    std::memcpy(ram->host(Gpa(at)), &address, 8);
    std::memcpy(ram->host(Gpa(at + 8)), &size, 4);
    std::memcpy(ram->host(Gpa(at + 12)), &flags, 2);
    std::memcpy(ram->host(Gpa(at + 14)), &next, 2);
  }
  VirtioQueue queue(256);
  const auto part = [&] { return random.one_in(8) ? random.edgy() : random.below(0x4000) & ~u64{1}; };
  queue.state = {.size = static_cast<u16>(1u << random.below(9)),
                 .enabled = true,
                 .descriptors = part(),
                 .driver = part(),
                 .device = part()};
  for (unsigned i = 0; i < 40; ++i) {
    const u16 index = static_cast<u16>(queue.state.next_available + random.below(4));
    (void)ram->write(Gpa(queue.state.driver + 2), &index, 2);
    VirtioChain chain;
    const auto result = queue.pop(*ram, &chain);
    if (result == VirtioQueue::Pop::broken) {
      ++queue.state.next_available;  // as after a reset, without losing the place
      continue;
    }
    if (result == VirtioQueue::Pop::empty) continue;
    const u64 readable = check_list(*ram, chain.readable), writable = check_list(*ram, chain.writable);
    DEJA_CHECK(readable == chain.readable_bytes && writable == chain.writable_bytes, "wrong sums");
    DEJA_CHECK(readable + writable <= VirtioQueue::kMaxBytes, "a request of {} bytes", readable + writable);
    DEJA_CHECK(chain.readable.size() + chain.writable.size() <= VirtioQueue::kMaxDescriptors, "a long chain");
    std::vector<u8> data(std::min<u64>(writable, 64_KiB), static_cast<u8>(i));
    const u64 from = writable > data.size() ? random.below(writable - data.size() + 1) : 0;
    DEJA_CHECK(write_segments(*ram, chain.writable, from, data.data(), data.size()), "not writable");
    DEJA_CHECK(!write_segments(*ram, chain.writable, writable, data.data(), 1), "writable beyond its end");
    data.resize(std::min<u64>(readable, 64_KiB));
    DEJA_CHECK(read_segments(*ram, chain.readable, 0, data.data(), data.size()), "not readable");
    (void)queue.push(*ram, chain.head, static_cast<u32>(random.edgy()));
    (void)queue.should_signal(*ram, random.one_in(2));
    (void)queue.ask_for_notification(*ram);
  }
}

}  // namespace deja::fuzz
