#include "fuzz/hostile_driver.h"

namespace deja::fuzz {
namespace {

constexpr u64 kCommand = 4;  // of configuration space
constexpr u16 kNext = 1, kWrite = 2, kIndirect = 4;
constexpr unsigned kActions = 60;

std::vector<u8> saved(const Device& device) {
  StateWriter w;
  device.save(w);
  return w.take();
}

}  // namespace

u64 HostileDriver::address() {
  switch (random_.below(12)) {
    case 0:
      return VirtioBench::kRam - random_.below(64);  // around the end of memory
    case 1:
      return random_.edgy();
    case 2:
      return ~u64{0} - random_.below(4096);
    case 3:
    case 4: {  // in a ring
      const Ring& r = rings_[random_.below(rings_.size())];
      return random_.pick({r.descriptors, r.available, r.used}) + random_.below(64);
    }
    default:
      return random_.below(64) * 0x400 + (random_.one_in(4) ? random_.below(64) : 0);
  }
}

u32 HostileDriver::length() {
  switch (random_.below(8)) {
    case 0:
      return 0;
    case 1:
      return static_cast<u32>(random_.edgy());
    case 2:
      return static_cast<u32>(16 * random_.below(40));
    default:
      return static_cast<u32>(random_.pick<u64>({1, 12, 16, 20, 512, 513, 1526, 4096, 65536}));
  }
}

void HostileDriver::start(bool honest) {
  device_.config_write(kCommand, honest || !random_.one_in(8) ? 0x406 : static_cast<u32>(random_()), 2);
  set(0x14, 0, 1);
  set(0x14, 3, 1);
  u64 features = VirtioPci::kVersion1;
  if (random_.one_in(2)) features |= VirtioPci::kRingIndirect;
  if (random_.one_in(2)) features |= VirtioPci::kRingEventIndex;
  if (!honest && random_.one_in(8)) features = random_();
  for (unsigned half = 0; half < 2; ++half) {
    set(0x08, half, 4);
    set(0x0c, features >> (32 * half) & 0xffffffff, 4);
  }
  set(0x14, 11, 1);
  set(0x10, 0, 2);
  rings_.assign(queues_, Ring{});
  for (unsigned q = 0; q < queues_; ++q) {
    Ring& r = rings_[q];
    r.descriptors = kRings + q * kRingSpace;
    r.available = r.descriptors + kAvailable;
    r.used = r.descriptors + kUsed;
    if (!honest && random_.one_in(2)) {
      r.size = static_cast<u16>(random_.one_in(4) ? random_() : 1u << random_.below(9));
      // Close together, or in one another.
      if (random_.one_in(2)) r.available = r.descriptors + 2 * random_.below(128);
      if (random_.one_in(2)) r.used = r.available + 2 * random_.below(16) - 8;
      for (u64* part : {&r.descriptors, &r.available, &r.used})
        if (random_.one_in(4)) *part = address();
    }
    set(0x16, q, 2);
    set(0x18, r.size, 2);
    set(0x1a, q + 1, 2);
    set(0x20, r.descriptors, 8);
    set(0x28, r.available, 8);
    set(0x30, r.used, 8);
    set(0x1c, 1, 2);
    for (u64 at = 0; honest && at < kRingSpace; at += 8) put(kRings + q * kRingSpace + at, u64{0});
  }
  set(0x14, 15, 1);
}

void HostileDriver::descriptor(u64 table, u64 index, u64 count) {
  const u64 at = table + 16 * index;
  u16 flags = static_cast<u16>(random_.below(4));
  if (random_.one_in(6)) flags = kIndirect;
  if (random_.one_in(20)) flags = static_cast<u16>(random_());
  put(at, address());
  put(at + 8, length());
  put(at + 12, flags);
  put(at + 14, static_cast<u16>(random_.one_in(8) ? random_() : random_.below(count + 1)));
}

void HostileDriver::offer(unsigned queue) {
  Ring& r = rings_[queue];
  const u16 size = r.size ? r.size : 1;
  for (u64 n = 1 + random_.below(4); n > 0; --n) {
    put(r.available + 4 + 2 * (r.index % size),
        static_cast<u16>(random_.one_in(10) ? random_() : random_.below(size)));
    ++r.index;
  }
  if (random_.one_in(10)) r.index = static_cast<u16>(random_());
  put(r.available + 2, r.index);
}

// Sound but for what else has been done to the rings: reaches the device's own code.
void HostileDriver::request(unsigned queue) {
  Ring& r = rings_[queue];
  const u16 size = r.size ? r.size : 1, head = static_cast<u16>(random_.below(size));
  const unsigned pieces = 1 + static_cast<unsigned>(random_.below(4));
  const unsigned readable = static_cast<unsigned>(random_.below(pieces + 1));
  const bool indirect = random_.one_in(3);
  const u64 table = indirect ? kBuffers - 0x1000 : r.descriptors;
  for (unsigned i = 0; i < pieces; ++i) {
    const u64 at = table + 16 * (indirect ? i : (head + i) % size);
    const u64 buffer = random_.one_in(8) ? address() : kBuffers + 0x10000 * i;
    // A header of the block device's, with any request.
    put(buffer, static_cast<u32>(random_.one_in(8) ? random_() : random_.pick<u64>({0, 1, 4, 8, 11, 13})));
    put(buffer + 8, random_.one_in(4) ? random_.edgy() : random_.below(64));
    put(at, buffer);
    put(at + 8, i == 0 ? 16 : length());
    put(at + 12, static_cast<u16>((i + 1 < pieces ? kNext : 0) | (i >= readable ? kWrite : 0)));
    put(at + 14, static_cast<u16>(indirect ? i + 1 : (head + i + 1) % size));
  }
  if (indirect) {
    put(r.descriptors + 16 * head, table);
    put(r.descriptors + 16 * head + 8, 16 * pieces);
    put(r.descriptors + 16 * head + 12, kIndirect);
  }
  put(r.available + 4 + 2 * (r.index % size), head);
  put(r.available + 2, ++r.index);
}

void HostileDriver::poke_register() {
  const unsigned size = 1u << random_.below(4);
  switch (random_.below(4)) {
    case 0:
      set(random_.below(0x38), random_.edgy(), size);
      break;
    case 1: {
      const u64 offset = random_.below(0x4000);
      set(offset, random_.edgy(), size);
      (void)device_.bar_read(4, offset, size);
      break;
    }
    case 2: {
      const u64 at = random_.below(device_.bar_size(1) - 8);
      device_.bar_write(1, at, random_.edgy(), size);
      (void)device_.bar_read(1, at, size);
      break;
    }
    default: {
      const unsigned part = 1u << random_.below(3),
                     at = static_cast<unsigned>(random_.below(256 / part)) * part;
      device_.config_write(at, static_cast<u32>(random_.edgy()), part);
      (void)device_.config_read(at, part);
    }
  }
}

void HostileDriver::act() {
  const unsigned queue = static_cast<unsigned>(random_.below(queues_));
  const Ring& r = rings_[queue];
  switch (random_.below(16)) {
    case 0:
      return start(false);
    case 1:
      return poke_register();
    case 2:
    case 3:
      for (u64 i = 0; i < 8; ++i) descriptor(r.descriptors, i, r.size);
      return;
    case 4:
      for (u64 i = 0, table = address(); i < 8; ++i) descriptor(table, i, 8);
      return;
    case 5:
      return put(address(), random_());
    case 6:
    case 7:
      return offer(queue);
    case 8:
    case 9:
    case 10:
      return request(queue);
    case 11:
      return wait();
    default:
      set(0x3000 + 4 * queue, queue, 2);
  }
}

void HostileDriver::wait() {
  const VtimeNs until = bench_.time.now_ + random_.below(200'000);
  for (unsigned events = 0; events < 50 && device_.next_event() <= until; ++events) {
    bench_.time.now_ = std::max(bench_.time.now_, device_.next_event());
    device_.advance(bench_.time.now_);
  }
  bench_.time.now_ = std::max(bench_.time.now_, until);
}

bool HostileDriver::serves(unsigned queue, const std::vector<Piece>& pieces,
                           const std::function<void()>& input) {
  const Ring& r = rings_[queue];
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    put(r.descriptors + 16 * i, pieces[i].address);
    put(r.descriptors + 16 * i + 8, pieces[i].size);
    put(r.descriptors + 16 * i + 12,
        static_cast<u16>((i + 1 < pieces.size() ? kNext : 0) | (pieces[i].write ? kWrite : 0)));
    put(r.descriptors + 16 * i + 14, static_cast<u16>(i + 1));
  }
  put(r.available + 4, u16{0});
  put(r.available + 2, u16{1});
  set(0x3000 + 4 * queue, queue, 2);
  if (input) input();
  for (unsigned events = 0; events < 10 && device_.next_event() != kNeverNs; ++events) {
    bench_.time.now_ = std::max(bench_.time.now_, device_.next_event());
    device_.advance(bench_.time.now_);
  }
  u16 used = 0;
  return bench_.ram->read(Gpa(r.used + 2), &used, 2) && used == 1;
}

void abuse(Random& random, unsigned queues, const MakeDevice& make,
           const std::function<void(VirtioPci&)>& input, const std::function<bool(HostileDriver&)>& honest) {
  VirtioBench bench;
  std::unique_ptr<VirtioPci> device = make(bench);
  device->reset();
  auto driver = std::make_unique<HostileDriver>(random, bench, *device, queues);
  driver->start(false);
  for (unsigned i = 0; i < kActions; ++i) {
    driver->act();
    if (random.one_in(8)) input(*device);
    if (!random.one_in(30)) continue;
    // Saved, restored into a fresh device and saved again, the bytes are the same.
    const std::vector<u8> state = saved(*device);
    std::unique_ptr<VirtioPci> other = make(bench);
    other->reset();
    StateReader r(state);
    DEJA_CHECK(other->restore(r) && r.at_end() && saved(*other) == state, "{} is not restored",
               device->name());
    device = std::move(other);
    driver = std::make_unique<HostileDriver>(random, bench, *device, queues);
    driver->start(false);
  }
  driver->start(true);
  DEJA_CHECK(honest(*driver), "{} does not work any more after a reset", device->name());
}

}  // namespace deja::fuzz
