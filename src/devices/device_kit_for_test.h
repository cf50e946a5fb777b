// What the tests of all devices share: a clock to turn by hand, recorders for wires, and three checks that
// every device must pass (device_kit_test.cc runs them).
#pragma once

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

#include "devices/device.h"
#include "devices/io_bus.h"
#include "devices/oscillator.h"

namespace deja {

class FakeTime : public TimeSource {
 public:
  VtimeNs now() const override { return now_; }
  VtimeNs now_ = 0;
};

// Records the transitions of an interrupt line.
class WireRecorder {
 public:
  explicit WireRecorder(const TimeSource& time) : time_(time) {}
  IrqLine line() {
    return [this](bool level) {
      if (level && !level_) rises.push_back(time_.now());
      level_ = level;
    };
  }
  bool level() const { return level_; }
  std::vector<VtimeNs> rises;

 private:
  const TimeSource& time_;
  bool level_ = false;
};

inline std::vector<u8> saved_bytes(const Device& d) {
  StateWriter w;
  d.save(w);
  return w.take();
}

// Turns the clock to `until`, stopping at every event on the way, as the machine does.
template <class... Devices>
void run_until(FakeTime& time, VtimeNs until, Devices&... devices) {
  for (;;) {
    const VtimeNs next = std::min({devices.next_event()...});
    if (next > until) break;
    time.now_ = std::max(time.now_, next);
    (devices.advance(time.now_), ...);
  }
  time.now_ = until;
}

// A device under test with everything around it, made afresh as often as needed.
class DeviceBench {
 public:
  virtual ~DeviceBench() = default;
  virtual Device& device() = 0;
  // Something a guest or the outside can do to it, chosen by `random`.
  virtual void poke(std::mt19937_64& random) = 0;
  // Takes over what belongs to the machine and not to the device, such as RAM, from a bench of the same kind.
  virtual void copy_surroundings(DeviceBench& from) {}

  FakeTime time;
  IoBus bus;
  // What the device showed: values read, levels driven. Two devices in the same state show the same.
  std::vector<u64> seen;

 protected:
  IrqLine wire() {
    return [this](bool level) { seen.push_back(level); };
  }
  // A port access of any size, mostly with useful values.
  void poke_port(std::mt19937_64& random, std::initializer_list<u16> ports) {
    const u16 port = *(ports.begin() + random() % ports.size());
    const unsigned size = random() % 4 ? 1 : 1u << random() % 3;
    if (random() % 2) {
      seen.push_back(bus.port_read(port, size));
    } else {
      bus.port_write(port, static_cast<u32>(random()), size);
    }
  }
  void poke_mmio(MmioDevice& device, std::mt19937_64& random, u64 window) {
    const unsigned size = random() % 4 ? 4 : 1u << random() % 4;
    u64 offset = random() % window;
    if (random() % 8) offset &= ~u64{15};
    offset = std::min(offset, window - size);
    if (random() % 2) {
      seen.push_back(device.mmio_read(offset, size));
    } else {
      device.mmio_write(offset, random() % 4 ? random() & 0x3ffff : random(), size);
    }
  }
};

using MakeBench = std::unique_ptr<DeviceBench> (*)();

// Pokes and lets time pass; `steps` of it. With `nudge`, advance() is also called where nothing is due, which
// must not be visible.
inline void mutate(DeviceBench& bench, std::mt19937_64& random, unsigned steps, bool nudge = false) {
  for (unsigned i = 0; i < steps; i++) {
    bench.poke(random);
    if (random() % 4 == 0) {
      const VtimeNs until = bench.time.now_ + random() % (u64{1} << random() % 33);  // up to 4 s
      for (unsigned events = 0; events < 100; events++) {
        const VtimeNs next = bench.device().next_event();
        if (nudge && next > bench.time.now_) {
          bench.time.now_ += (std::min(next, until) - bench.time.now_) / 2;
          bench.device().advance(bench.time.now_);
        }
        if (next > until) break;
        bench.time.now_ = std::max(bench.time.now_, next);
        bench.device().advance(bench.time.now_);
      }
      // A guest may have asked for more events than a test wants to wait for: leave it in the middle then.
      if (bench.device().next_event() > until) bench.time.now_ = until;
    }
  }
}

// Saved, restored into a fresh device and saved again, the bytes are equal; and the two go on alike.
inline void check_save_restore(MakeBench make, u64 seed) {
  SCOPED_TRACE("DEJA_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (unsigned round = 0; round < 150; round++) {
    auto original = make();
    mutate(*original, random, 60);
    const std::vector<u8> bytes = saved_bytes(original->device());

    auto copy = make();
    copy->time.now_ = original->time.now_;
    copy->copy_surroundings(*original);
    StateReader r(bytes);
    ASSERT_TRUE(copy->device().restore(r)) << original->device().name() << " refuses its own state";
    ASSERT_TRUE(r.at_end());
    ASSERT_EQ(saved_bytes(copy->device()), bytes);
    ASSERT_EQ(copy->device().next_event(), original->device().next_event());

    std::mt19937_64 same = random;
    original->seen.clear();
    mutate(*original, random, 20);
    mutate(*copy, same, 20, true);
    ASSERT_EQ(copy->seen, original->seen);
    ASSERT_EQ(saved_bytes(copy->device()), saved_bytes(original->device()));
  }
}

// Cut or garbled bytes are refused or give a device that still works.
inline void check_hostile_restore(MakeBench make, u64 seed) {
  SCOPED_TRACE("DEJA_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (unsigned round = 0; round < 60; round++) {
    auto bench = make();
    mutate(*bench, random, 20);
    std::vector<u8> bytes = saved_bytes(bench->device());
    const std::size_t whole = bytes.size();
    switch (random() % 3) {
      case 0:
        bytes.resize(random() % (bytes.size() + 1));
        break;
      case 1:
        for (u8& b : bytes) b = static_cast<u8>(random());
        break;
      default:
        for (unsigned i = 0; i < 4 && !bytes.empty(); i++)
          bytes[random() % bytes.size()] ^= 1u << random() % 8;
        break;
    }
    auto victim = make();
    victim->time.now_ = bench->time.now_;
    StateReader r(bytes);
    const bool restored = victim->device().restore(r);
    EXPECT_FALSE(restored && bytes.size() < whole) << "cut to " << bytes.size() << " of " << whole;
    mutate(*victim, random, 20);
    victim->device().reset();
  }
}

// Whatever is written, with any size, anywhere: no crash, and reset still works.
inline void check_hostile_access(MakeBench make, u64 seed) {
  SCOPED_TRACE("DEJA_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (unsigned round = 0; round < 4; round++) {
    auto bench = make();
    mutate(*bench, random, 3000);
    bench->device().reset();
    mutate(*bench, random, 100);
  }
}

}  // namespace deja
