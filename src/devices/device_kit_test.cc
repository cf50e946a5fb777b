// Every device goes through the shared checks of device_kit_for_test.h. A new device adds a bench and a line
// at the end.
#include "devices/device_kit_for_test.h"

#include <cstdlib>
#include <memory>

#include "devices/acpi_pm.h"
#include "devices/bochs_display.h"
#include "devices/fw_cfg.h"
#include "devices/guest_control.h"
#include "devices/i8042.h"
#include "devices/i8254.h"
#include "devices/interrupts/i8259.h"
#include "devices/interrupts/interrupt_bus.h"
#include "devices/interrupts/ioapic.h"
#include "devices/interrupts/local_apic.h"
#include "devices/mc146818.h"
#include "devices/pci/pci_bus.h"
#include "devices/reset_control.h"
#include "devices/uart16550.h"
#include "devices/virtio/virtio_blk.h"
#include "devices/virtio/virtio_console.h"
#include "devices/virtio/virtio_driver_for_test.h"
#include "devices/virtio/virtio_net.h"
#include "devices/virtio/virtio_rng.h"

namespace deja {
namespace {

struct LocalApicBench : DeviceBench {
  InterruptBus interrupts;
  u64 adjust = 0;
  I8259 pic{interrupts};
  IoApic ioapic{interrupts};
  LocalApic apic{{0}, time, interrupts, {[] {}, [] {}, [](u8) {}, [this] { return adjust; }}};
  Device& device() override { return apic; }
  LocalApicBench() { apic.enter_virtual_wire_mode(); }
  void poke(std::mt19937_64& random) override {
    u64 value = 0;
    switch (random() % 12) {
      case 0:
        if (random() % 4 == 0) {
          static constexpr u64 kModes[] = {0, kApicBaseEnable, kApicBaseEnable | kApicBaseExtended};
          apic.write_apic_base(kApicDefaultBase | kApicBaseBsp | kModes[random() % 3]);
        }
        apic.mmio_write(0xf0, 0x1ff, 4);
        break;
      case 1:
        apic.msr_write(0x800 + random() % 0x40, random() % 2 ? random() & 0x3ffff : random());
        break;
      case 2:
        apic.msr_read(0x800 + random() % 0x40, &value);
        seen.push_back(value);
        break;
      case 3:
        apic.msr_write(0x6e0, time.now_ + random() % 100'000);
        break;
      case 4:
        seen.push_back(static_cast<u64>(apic.acknowledge()));
        break;
      case 5:
        apic.set_lint0(random() % 2), apic.set_lint1(random() % 2);
        break;
      case 6:
        interrupts.send({static_cast<DeliveryMode>(random() % 8), static_cast<u8>(random()),
                         random() % 2 == 0, random() % 2 == 0, false, static_cast<u32>(random() % 256)});
        break;
      case 7:
        apic.mmio_write(0x320, random() & 0x600ff, 4);
        break;
      case 8:
        apic.mmio_write(0x380, random() % 1'000'000, 4);
        break;
      case 9:
        seen.push_back(apic.mmio_read(0x390, 4));
        seen.push_back(apic.pending());
        break;
      default:
        if (apic.in_xapic_mode()) poke_mmio(apic, random, 4096);
        break;
    }
  }
};

struct IoApicBench : DeviceBench {
  InterruptBus interrupts;
  IoApic ioapic{interrupts};
  LocalApic apic{{0}, time, interrupts, {[] {}, [] {}, [](u8) {}, [] { return u64{0}; }}};
  IoApicBench() { apic.enter_virtual_wire_mode(); }
  Device& device() override { return ioapic; }
  void poke(std::mt19937_64& random) override {
    switch (random() % 4) {
      case 0:
        ioapic.set_pin(random() % IoApic::kPins, random() % 2);
        break;
      case 1:
        ioapic.mmio_write(0, 0x10 + random() % 0x30, 4);
        break;
      case 2:
        ioapic.end_of_interrupt(static_cast<u8>(random()));
        break;
      default:
        poke_mmio(ioapic, random, random() % 2 ? 0x50 : 4096);
        break;
    }
  }
};

struct I8259Bench : DeviceBench {
  InterruptBus interrupts;
  I8259 pic{interrupts};
  I8259Bench() { pic.attach(bus); }
  Device& device() override { return pic; }
  void poke(std::mt19937_64& random) override {
    switch (random() % 4) {
      case 0:
        if (unsigned irq = random() % 16; irq != 2) pic.set_irq(irq, random() % 2);
        break;
      case 1:
        pic.acknowledge();
        break;
      default:
        poke_port(random, {0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1});
        break;
    }
  }
};

struct I8254Bench : DeviceBench {
  I8254 pit{time, wire()};
  I8254Bench() { pit.attach(bus); }
  Device& device() override { return pit; }
  void poke(std::mt19937_64& random) override { poke_port(random, {0x40, 0x41, 0x42, 0x43, 0x43, 0x61}); }
};

struct Mc146818Bench : DeviceBench {
  Mc146818 rtc{time, wire()};
  Mc146818Bench() { rtc.attach(bus); }
  Device& device() override { return rtc; }
  void poke(std::mt19937_64& random) override {
    if (random() % 16 == 0) rtc.set_time_base(static_cast<i64>(random() % (u64{1} << 36)));
    if (random() % 2) bus.port_write(0x70, static_cast<u8>(random() % 14), 1);
    poke_port(random, {0x70, 0x71, 0x71, 0x71});
  }
};

struct Uart16550Bench : DeviceBench {
  Uart16550 uart{"uart0", 0x3f8, time, wire(), [this](u8 b) { seen.push_back(b); }};
  Uart16550Bench() { uart.attach(bus); }
  Device& device() override { return uart; }
  void poke(std::mt19937_64& random) override {
    switch (random() % 6) {
      case 0:
        uart.receive(static_cast<u8>(random()));
        break;
      case 1:
        uart.receive_break();
        break;
      default:
        poke_port(random, {0x3f8, 0x3f9, 0x3fa, 0x3fb, 0x3fc, 0x3fd, 0x3fe, 0x3ff});
        break;
    }
    ASSERT_LE(uart.room(), Uart16550::kFifoSize);
  }
};

struct AcpiPmBench : DeviceBench {
  AcpiPm pm{0x600, 5, time, wire(), [] {}};
  AcpiPmBench() { pm.attach(bus); }
  Device& device() override { return pm; }
  void poke(std::mt19937_64& random) override {
    switch (random() % 6) {
      case 0:
        pm.power_button();
        break;
      case 1:
        pm.raise_gpe(random() % 16);
        break;
      default:
        poke_port(random, {0x600, 0x602, 0x603, 0x604, 0x605, 0x608, 0x60b, 0x620, 0x622, 0x63f});
        break;
    }
  }
};

struct I8042Bench : DeviceBench {
  I8042 controller{wire(), wire(), [this] { seen.push_back(~u64{0}); }};
  I8042Bench() { controller.attach(bus); }
  Device& device() override { return controller; }
  void poke(std::mt19937_64& random) override {
    if (random() % 8 == 0) return controller.type(random() % 2 ? "\x1c\xf0\x1c" : "\xe0\x14");
    poke_port(random, {0x60, 0x64});
  }
};

struct ResetControlBench : DeviceBench {
  ResetControl control{[this] { seen.push_back(1); }};
  PciHost host{control, [](unsigned, bool) {}};
  ResetControlBench() { control.attach(bus), host.attach(bus); }
  Device& device() override { return control; }
  void poke(std::mt19937_64& random) override { poke_port(random, {0x92, 0xcf9}); }
};

struct PciHostBench : DeviceBench {
  // The device behind the host has no state: it is not saved with the host.
  struct Behind : PortDevice {
    u32 port_read(u16, unsigned) override { return 0x5a; }
    void port_write(u16, u32, unsigned) override {}
  } behind;
  PciHost host{behind, [](unsigned, bool) {}};
  PciHostBridge bridge;
  PciHostBench() { host.attach(bus), host.add(0, 0, &bridge); }
  Device& device() override { return host; }
  void poke(std::mt19937_64& random) override {
    if (random() % 2) bus.port_write(0xcf8, 0x80000000 | (random() & 0xfc), 4);
    poke_port(random, {0xcf8, 0xcf9, 0xcfb});
    seen.push_back(bus.port_read(static_cast<u16>(0xcfc + random() % 4), 1u << random() % 3));
  }
};

struct PciFunctionBench : DeviceBench {
  struct Function : PciFunction {
    Function() : PciFunction("function", {0x1234, 0x5678, 0x020000}) {
      add_bar(0, BarKind::io, 32);
      add_bar(1, BarKind::memory32, 4096);
      add_bar(2, BarKind::memory64, 8_GiB);
    }
  } function;
  Device& device() override { return function; }
  void poke(std::mt19937_64& random) override {
    const unsigned size = 1u << random() % 3;
    const unsigned offset = static_cast<unsigned>(random() % 256) & ~(size - 1);
    if (random() % 2) {
      function.config_read(offset, size);
    } else {
      function.config_write(offset, static_cast<u32>(random()), size);
    }
  }
};

// A driver that sets the device up and offers good requests most of the time, and something else at times.
struct VirtioBench : DeviceBench {
  std::unique_ptr<GuestRam> ram = GuestRam::create(1_MiB).value();
  virtual VirtioPci& virtio() = 0;
  virtual unsigned queues() const { return 1; }
  Device& device() override { return virtio(); }
  void copy_surroundings(DeviceBench& from) override {
    std::vector<u8> bytes(ram->size());
    ASSERT_TRUE(static_cast<VirtioBench&>(from).ram->read(Gpa(0), bytes.data(), bytes.size()));
    ASSERT_TRUE(ram->write(Gpa(0), bytes.data(), bytes.size()));
  }
  VirtioWiring wiring() {
    return {*ram, time, [this](u64 address, u32 data) { seen.push_back(address ^ data); }};
  }
  void poke(std::mt19937_64& random) override {
    VirtioDriver driver(virtio(), *ram);
    const unsigned q = static_cast<unsigned>(random() % queues());
    switch (random() % 16) {
      case 0:
        for (u64 at = VirtioDriver::kRings; at < VirtioDriver::kRings + 2 * VirtioDriver::kRingSpace; at += 8)
          driver.put(at, u64{0});
        driver.start(queues());
        break;
      case 1:
        virtio().config_write(static_cast<unsigned>(random() % 63) * 4, static_cast<u32>(random()), 4);
        break;
      case 2:
        virtio().bar_write(random() % 2 ? 4 : 1, random() % 0x40 * 4, random(), 4);
        break;
      case 3:
        seen.push_back(virtio().bar_read(4, random() % 0x3000, 1u << random() % 4));
        break;
      case 4:
        driver.offer_head(q, static_cast<u16>(random() % 9));
        driver.notify(q);
        break;
      case 5:
        from_outside(random);
        break;
      default: {
        driver.put(0x40000, static_cast<u32>(random() % 3));  // read, write or unknown
        driver.put(0x40008, random() % 40);
        const bool writable = random() % 2;
        driver.offer(q, static_cast<u16>(random() % 3),
                     {{0x40000, 16, false},
                      {0x50000, static_cast<u32>(1 + random() % 4) * 512, writable},
                      {0x60000, 1, true}});
        driver.notify(q);
        break;
      }
    }
  }
  virtual void from_outside(std::mt19937_64&) {}
};

struct GuestControlBench : DeviceBench {
  GuestControl control{0x700, time, false, [this](const GuestCommand& c) { seen.push_back(c.text.size()); }};
  GuestControlBench() { control.attach(bus); }
  Device& device() override { return control; }
  void poke(std::mt19937_64& random) override {
    static constexpr std::string_view kPieces[] = {"mark ", "x", "\n", "exit 1\n", "record stop\n"};
    if (random() % 4 == 0) return poke_port(random, {0x700, 0x701, 0x7ff});
    for (const char c : kPieces[random() % std::size(kPieces)]) bus.port_write(0x700, static_cast<u8>(c), 1);
  }
};

struct VirtioBlkBench : VirtioBench {
  struct Zeros : BlockImage {
    u64 size() const override { return 16_KiB; }
    Status read(u64, std::span<u8> out) override {
      std::fill(out.begin(), out.end(), u8{0});
      return {};
    }
  } zeros;
  DiskOverlay overlay{zeros};
  VirtioBlk disk{"virtio_blk0", {"serial", false}, overlay, wiring(), [](const Error&) {}};
  VirtioPci& virtio() override { return disk; }
  void copy_surroundings(DeviceBench& from) override {
    VirtioBench::copy_surroundings(from);
    overlay.restore(static_cast<VirtioBlkBench&>(from).overlay.snapshot());
  }
};

struct VirtioRngBench : VirtioBench {
  const std::array<u8, 3> seed{1, 2, 3};
  VirtioRng rng{seed, wiring()};
  VirtioPci& virtio() override { return rng; }
};

struct VirtioConsoleBench : VirtioBench {
  VirtioConsole console{wiring(), [this](u8 b) { seen.push_back(b); }};
  VirtioPci& virtio() override { return console; }
  unsigned queues() const override { return 2; }
  void from_outside(std::mt19937_64& random) override { console.receive(static_cast<u8>(random())); }
};

struct VirtioNetBench : VirtioBench {
  VirtioNet nic{
      "virtio_net", {2, 0, 0, 0, 0, 1}, wiring(), [this](std::string_view f) { seen.push_back(f.size()); }};
  VirtioPci& virtio() override { return nic; }
  unsigned queues() const override { return 2; }
  void from_outside(std::mt19937_64& random) override { nic.receive(std::string(60 + random() % 1000, 'x')); }
};

struct FwCfgBench : DeviceBench {
  std::unique_ptr<GuestRam> ram = std::move(GuestRam::create(1_MiB)).value();
  FwCfg fw_cfg{items(), *ram, time};
  FwCfgBench() { fw_cfg.attach(bus, 0x510); }
  static FwCfgItems items() {
    FwCfgItems items;
    items.add_file("etc/file", std::vector<u8>(100, 7));
    return items;
  }
  Device& device() override { return fw_cfg; }
  void copy_surroundings(DeviceBench& from) override {
    std::vector<u8> bytes(ram->size());
    ASSERT_TRUE(static_cast<FwCfgBench&>(from).ram->read(Gpa(0), bytes.data(), bytes.size()));
    ASSERT_TRUE(ram->write(Gpa(0), bytes.data(), bytes.size()));
  }
  void poke(std::mt19937_64& random) override {
    switch (random() % 4) {
      case 0: {
        // A request with a sensible item and address, mostly.
        u8 request[16] = {0,
                          static_cast<u8>(random() % 0x24),
                          0,
                          static_cast<u8>(random()),
                          0,
                          0,
                          static_cast<u8>(random() % 4),
                          static_cast<u8>(random())};
        request[13] = static_cast<u8>(random() % 20), request[14] = static_cast<u8>(random());
        const u64 at = random() % 4 ? random() % 256 * 16 : random() % 0x20'0000;
        ram->write(Gpa(at), request, sizeof request);
        bus.port_write(0x518, __builtin_bswap32(static_cast<u32>(at)), 4);
        break;
      }
      case 1:
        bus.port_write(0x510, static_cast<u32>(random() % 0x24), 2);
        break;
      default:
        poke_port(random, {0x510, 0x511, 0x514, 0x518});
        break;
    }
    seen.push_back(ram->digest());
  }
};

struct BochsDisplayBench : DeviceBench {
  BochsDisplay screen{{640, 480}, [](std::optional<u64>) {}};
  BochsDisplayBench() { screen.reset(); }
  Device& device() override { return screen; }
  void poke(std::mt19937_64& random) override {
    const unsigned size = 1u << random() % 4;
    const u64 offset = random() % 2 ? 0x500 + random() % 24 : random() % (4096 - 8);
    switch (random() % 5) {
      case 0:
        screen.config_write(random() % 8 * 4, static_cast<u32>(random()), 4);
        break;
      case 1:
        seen.push_back(screen.bar_read(random() % 3, offset, size));
        break;
      case 2:
        screen.switch_on();
        break;
      default:
        screen.bar_write(2, offset & ~u64{1}, random() % 1024, 2);
        break;
    }
    seen.push_back(screen.window().value_or(1));
    if (const auto mode = screen.mode()) seen.push_back(mode->offset + mode->stride);
  }
};

// Random runs take their seed from DEJA_SEED; a failure prints it.
u64 seed_from_environment() {
  const char* s = std::getenv("DEJA_SEED");
  return s ? std::strtoull(s, nullptr, 0) : 1;
}

template <class Bench>
std::unique_ptr<DeviceBench> make() {
  return std::make_unique<Bench>();
}

class DeviceKit : public testing::TestWithParam<MakeBench> {};
TEST_P(DeviceKit, SaveAndRestore) { check_save_restore(GetParam(), seed_from_environment()); }
TEST_P(DeviceKit, HostileState) { check_hostile_restore(GetParam(), seed_from_environment()); }
TEST_P(DeviceKit, HostileAccess) { check_hostile_access(GetParam(), seed_from_environment()); }

INSTANTIATE_TEST_SUITE_P(All, DeviceKit,
                         testing::Values(make<LocalApicBench>, make<IoApicBench>, make<I8259Bench>,
                                         make<I8254Bench>, make<Mc146818Bench>, make<Uart16550Bench>,
                                         make<AcpiPmBench>, make<I8042Bench>, make<ResetControlBench>,
                                         make<PciHostBench>, make<PciFunctionBench>, make<VirtioBlkBench>,
                                         make<VirtioRngBench>, make<VirtioConsoleBench>, make<VirtioNetBench>,
                                         make<FwCfgBench>, make<BochsDisplayBench>, make<GuestControlBench>),
                         [](const auto& info) { return std::string(info.param()->device().name()); });

}  // namespace
}  // namespace deja
