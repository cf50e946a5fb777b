// A driver as small as possible for virtio devices under test: sets the device up through its BARs, puts
// requests into rings in guest memory, and looks at what comes back.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

#include "devices/device_kit_for_test.h"
#include "devices/virtio/virtio_pci.h"

namespace deja {

class VirtioDriver {
 public:
  static constexpr u64 kRings = 0x10000;  // of queue q from kRings + q * kRingSpace on
  static constexpr u64 kRingSpace = 0x4000;
  static constexpr u64 kAvailable = 0x1000, kUsed = 0x2000;  // within it; the descriptors come first
  static constexpr u16 kSize = 8;

  VirtioDriver(VirtioPci& device, GuestRam& ram) : device_(device), ram_(ram) {}

  u64 common(u64 at, unsigned size) { return device_.bar_read(4, at, size); }
  void set_common(u64 at, u64 value, unsigned size) { device_.bar_write(4, at, value, size); }

  // Sections 3.1.1 and 4.1.5.1: features, queues with their vectors, bus mastering, MSI-X, DRIVER_OK.
  void start(unsigned queues, u64 features = VirtioPci::kVersion1 | VirtioPci::kRingIndirect) {
    device_.config_write(4, 0x406, 2);
    unsigned cap = device_.config_read(0x34, 1);
    while (cap && device_.config_read(cap, 1) != 0x11) cap = device_.config_read(cap + 1, 1);
    ASSERT_NE(cap, 0u);
    device_.config_write(cap + 2, 0x8000, 2);
    for (unsigned v = 0; v <= queues; ++v) {
      device_.bar_write(1, 16 * v, 0xfee00000, 4);
      device_.bar_write(1, 16 * v + 8, 0x40 + v, 4);
      device_.bar_write(1, 16 * v + 12, 0, 4);
    }
    set_common(0x14, 0, 1);
    set_common(0x14, 3, 1);
    for (unsigned half = 0; half < 2; ++half) {
      set_common(0x08, half, 4);
      set_common(0x0c, features >> (32 * half) & 0xffffffff, 4);
    }
    set_common(0x14, 11, 1);
    ASSERT_EQ(common(0x14, 1), 11u);
    set_common(0x10, 0, 2);
    for (unsigned q = 0; q < queues; ++q) {
      set_common(0x16, q, 2);
      set_common(0x18, kSize, 2);
      set_common(0x1a, q + 1, 2);
      set_common(0x20, ring(q), 8);
      set_common(0x28, ring(q) + kAvailable, 8);
      set_common(0x30, ring(q) + kUsed, 8);
      set_common(0x1c, 1, 2);
    }
    set_common(0x14, 15, 1);
  }

  struct Piece {
    u64 address;
    u32 size;
    bool write;
  };
  void descriptor(unsigned q, u16 index, u64 address, u32 size, u16 flags, u16 next) {
    put(ring(q) + 16 * index, address);
    put(ring(q) + 16 * index + 8, size);
    put(ring(q) + 16 * index + 12, flags);
    put(ring(q) + 16 * index + 14, next);
  }
  // Builds a chain from descriptor `first` on and offers it.
  void offer(unsigned q, u16 first, const std::vector<Piece>& pieces) {
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      const bool last = i + 1 == pieces.size();
      descriptor(q, static_cast<u16>(first + i), pieces[i].address, pieces[i].size,
                 static_cast<u16>((last ? 0 : 1) | (pieces[i].write ? 2 : 0)),
                 static_cast<u16>(first + i + 1));
    }
    offer_head(q, first);
  }
  void offer_head(unsigned q, u16 head) {
    const u16 index = get<u16>(ring(q) + kAvailable + 2);
    put(ring(q) + kAvailable + 4 + 2 * (index % kSize), head);
    put(ring(q) + kAvailable + 2, static_cast<u16>(index + 1));
  }
  void notify(unsigned q) { device_.bar_write(4, 0x3000 + 4 * q, q, 2); }
  u16 used(unsigned q) { return get<u16>(ring(q) + kUsed + 2); }
  u32 used_size(unsigned q, u16 n) { return get<u32>(ring(q) + kUsed + 4 + 8 * (n % kSize) + 4); }
  bool broken() { return common(0x14, 1) & 64; }

  static u64 ring(unsigned q) { return kRings + q * kRingSpace; }
  template <class T>
  void put(u64 at, T value) {
    ASSERT_TRUE(ram_.write(Gpa(at), &value, sizeof value));
  }
  template <class T>
  T get(u64 at) {
    T value{};
    EXPECT_TRUE(ram_.read(Gpa(at), &value, sizeof value));
    return value;
  }

 private:
  VirtioPci& device_;
  GuestRam& ram_;
};

}  // namespace deja
