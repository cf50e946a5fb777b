// PCI configuration space by both ways and the BARs behind it, whatever is written where.
#include "base/check.h"
#include "devices/bochs_display.h"
#include "devices/io_bus.h"
#include "devices/virtio/virtio_net.h"
#include "devices/virtio/virtio_rng.h"
#include "fuzz/hostile_driver.h"

namespace deja::fuzz {
namespace {

constexpr u64 kEcam = 0xe0000000, kWindow = 0xc0000000, kWindowSize = 0x3ec00000;

struct NoReset final : PortDevice {
  u32 port_read(u16, unsigned) override { return 0; }
  void port_write(u16, u32, unsigned) override {}
};

// BARs of every kind, one of them larger than any window.
struct Card final : PciFunction {
  Card() : PciFunction("card", {0x1234, 0x5678, 0xff0000}) {
    add_bar(0, BarKind::io, 32);
    add_bar(1, BarKind::memory32, 2_GiB);
    add_bar(2, BarKind::memory64, 8_GiB);
    add_bar(4, BarKind::memory64_prefetchable, 4_KiB);
  }
  u64 bar_read(unsigned bar, u64 offset, unsigned size) override {
    check_access(bar, offset, size);
    return offset;
  }
  void bar_write(unsigned bar, u64 offset, u64, unsigned size) override { check_access(bar, offset, size); }
  void check_access(unsigned bar, u64 offset, unsigned size) const {
    DEJA_CHECK(bar_is_memory(bar) && bar_address(bar), "BAR {} is not decoded", bar);
    DEJA_CHECK(offset < bar_size(bar) && size <= bar_size(bar) - offset, "BAR {}: {:#x}+{}", bar, offset,
               size);
  }
};

// A BAR stands at a multiple of its size, or nowhere, whatever was written.
void check_bars(const PciFunction& f) {
  for (unsigned bar = 0; bar < PciFunction::kBars; ++bar)
    if (const std::optional<u64> start = f.bar_address(bar))
      DEJA_CHECK(*start % f.bar_size(bar) == 0 && (f.bar_is_memory(bar) || *start < 64_KiB),
                 "{}: BAR {} at {:#x}", f.name(), bar, *start);
}

struct Bus {
  VirtioBench bench;
  NoReset reset_control;
  IoBus io;
  PciHost host{reset_control, [](unsigned wire, bool) { DEJA_CHECK(wire < PciHost::kPins); }};
  PciHostBridge bridge;
  VirtioRng rng{std::vector<u8>(4), bench.wiring()};
  VirtioNet net{"net", MacAddress{0x52}, bench.wiring(), [](std::string_view) {}};
  BochsDisplay screen{BochsDisplay::kSmallest, [](std::optional<u64>) {}};
  Card card;

  Bus() {
    host.attach(io);
    host.attach_ecam(io, kEcam);
    host.attach_window(io, kWindow, kEcam - kWindow);
    host.attach_window(io, kEcam + PciHost::kEcamSize, kWindow + kWindowSize - kEcam - PciHost::kEcamSize);
    host.add(0, 0, &bridge);
    host.add(1, 0, &rng);
    host.add(2, 0, &net);
    host.add(3, 0, &screen);
    for (Device* d : all()) d->reset();
    host.assign_bars(kEcam + PciHost::kEcamSize, kWindow + kWindowSize);
    host.add(4, 0, &card);  // its BARs have no room there
  }
  std::vector<PciFunction*> functions() { return {&bridge, &rng, &net, &screen, &card}; }
  std::vector<Device*> all() { return {&host, &bridge, &rng, &net, &screen, &card}; }
  std::vector<u8> saved() {
    StateWriter w;
    for (Device* d : all()) d->save(w);
    return w.take();
  }
};

}  // namespace

void run_case(Random& random) {
  Bus bus;
  for (unsigned i = 0; i < 300; ++i) {
    const unsigned size = 1u << random.below(3);
    const u32 value = static_cast<u32>(random.edgy());
    const u64 slot = random.below(6), offset = random.one_in(2) ? random.below(256) : 4 + random.below(36);
    switch (random.below(6)) {
      case 0:
        bus.io.port_write(
            0xcf8, static_cast<u32>(random.one_in(8) ? random() : 0x80000000 | slot << 11 | (offset & ~3ull)),
            4);
        break;
      case 1:
        bus.io.port_write(static_cast<u16>(0xcf8 + random.below(8)), value, size);
        break;
      case 2:
        (void)bus.io.port_read(static_cast<u16>(0xcf8 + random.below(8)), size);
        break;
      case 3: {
        const u64 at =
            kEcam + (random.one_in(8) ? random.below(PciHost::kEcamSize - 8) : slot << 15 | offset);
        const unsigned wide = 1u << random.below(4);
        bus.io.mmio_write(Gpa(at), random.edgy(), wide);
        (void)bus.io.mmio_read(Gpa(at), wide);
        break;
      }
      case 4: {
        PciFunction& f = *bus.functions()[random.below(bus.functions().size())];
        const std::optional<u64> base =
            f.bar_address(static_cast<unsigned>(random.below(PciFunction::kBars)));
        const u64 at = base ? *base + random.below(0x4010) : kWindow + random.below(kWindowSize - 8);
        bus.io.mmio_write(Gpa(at), random.edgy(), size);
        (void)bus.io.mmio_read(Gpa(at), size);
        break;
      }
      default:
        bus.bench.time.now_ += random.below(100'000);
        for (Device* d : bus.all()) d->advance(bus.bench.time.now_);
    }
    for (const PciFunction* f : bus.functions()) check_bars(*f);
  }
  const std::vector<u8> state = bus.saved();
  Bus other;
  StateReader r(state);
  for (Device* d : other.all()) DEJA_CHECK(d->restore(r), "{} refuses its own state", d->name());
  DEJA_CHECK(r.at_end() && other.saved() == state, "not restored as it was");
}

}  // namespace deja::fuzz
