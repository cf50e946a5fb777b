// A driver that breaks every rule of virtio: rings and buffers that lie in each other, beyond memory, or
// nowhere; loops, empty descriptors, indirect tables in indirect tables; registers written at any time. The
// device's own writes change the rings that it is reading, since they overlap: with one thread that is how
// memory changes while it is read.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "base/check.h"
#include "devices/virtio/virtio_pci.h"
#include "fuzz/target.h"

namespace deja::fuzz {

class FakeTime final : public TimeSource {
 public:
  VtimeNs now() const override { return now_; }
  VtimeNs now_ = 0;
};

// What a device is connected to.
struct VirtioBench {
  static constexpr u64 kRam = 1_MiB;
  std::unique_ptr<GuestRam> ram = GuestRam::create(kRam).value();
  FakeTime time;
  u64 messages = 0;

  VirtioWiring wiring() {
    return {*ram, time, [this](u64, u32) { ++messages; }};
  }
};

class HostileDriver {
 public:
  static constexpr u16 kSize = 8;  // of the rings that start() sets up

  HostileDriver(Random& random, VirtioBench& bench, VirtioPci& device, unsigned queues)
      : random_(random), bench_(bench), device_(device), queues_(queues) {}

  // Sets the device up as section 3.1.1 says; `honest`: with sound rings.
  void start(bool honest);
  // Something that a driver can do.
  void act();
  // Lets time pass, by which the device works.
  void wait();

  // A request made of `pieces`, as it should be, on a device that start(true) has set up; whether it was
  // served.
  struct Piece {
    u64 address;
    u32 size;
    bool write;
  };
  bool serves(unsigned queue, const std::vector<Piece>& pieces, const std::function<void()>& input = {});

  // Sound places for buffers.
  static constexpr u64 kBuffers = 0x80000;

 private:
  static constexpr u64 kRings = 0x10000, kRingSpace = 0x4000, kAvailable = 0x1000, kUsed = 0x2000;

  void set(u64 at, u64 value, unsigned size) { device_.bar_write(4, at, value, size); }
  template <class T>
  void put(u64 at, T value) {
    (void)bench_.ram->write(Gpa(at), &value, sizeof value);
  }
  u64 address();
  u32 length();
  void descriptor(u64 table, u64 index, u64 count);
  void offer(unsigned queue);
  void request(unsigned queue);
  void poke_register();

  Random& random_;
  VirtioBench& bench_;
  VirtioPci& device_;
  const unsigned queues_;
  struct Ring {
    u64 descriptors = 0, available = 0, used = 0;
    u16 size = kSize;
    u16 index = 0;
  };
  std::vector<Ring> rings_;
};

// A whole case: abuse the device made by `make`, moving its state into another one at random moments; then
// reset it, after which it must serve what `honest` asks for.
using MakeDevice = std::function<std::unique_ptr<VirtioPci>(VirtioBench&)>;
void abuse(Random& random, unsigned queues, const MakeDevice& make,
           const std::function<void(VirtioPci&)>& input, const std::function<bool(HostileDriver&)>& honest);

}  // namespace deja::fuzz
