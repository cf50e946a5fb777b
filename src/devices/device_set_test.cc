#include "devices/device_set.h"

#include "devices/acpi_pm.h"
#include "devices/device_kit_for_test.h"
#include "devices/uart16550.h"

namespace deja {
namespace {

struct Machine {
  FakeTime time;
  IoBus bus;
  Uart16550 uart{"uart0", 0x3f8, time, [](bool) {}, [](u8) {}};
  AcpiPm pm{0x600, 5, time, [](bool) {}, [] {}};
  DeviceSet set;
  Machine() {
    uart.attach(bus), pm.attach(bus);
    set.add(&uart), set.add(&pm);
  }
  std::vector<u8> save() const {
    StateWriter w;
    set.save(w);
    return w.take();
  }
};

TEST(DeviceSet, SavesAndRestoresAll) {
  Machine a, b;
  a.bus.port_write(0x3ff, 0x42, 1);
  a.bus.port_write(0x602, 1, 2);
  EXPECT_NE(a.set.digest(), b.set.digest());
  const auto bytes = a.save();
  StateReader r(bytes);
  ASSERT_TRUE(b.set.restore(r).ok());
  EXPECT_TRUE(r.at_end());
  EXPECT_EQ(a.set.digest(), b.set.digest());
  EXPECT_EQ(b.set.next_event(), a.set.next_event());
  EXPECT_EQ(b.set.next_event(), a.pm.next_event());
}

TEST(DeviceSet, EveryCutIsRefusedByName) {
  Machine a;
  const auto bytes = a.save();
  for (std::size_t n = 0; n < bytes.size(); n++) {
    Machine b;
    StateReader r(std::string_view(reinterpret_cast<const char*>(bytes.data()), n));
    const Status s = b.set.restore(r);
    ASSERT_FALSE(s.ok()) << n;
    EXPECT_NE(s.error().message.find("saved devices: byte"), std::string::npos);
  }
}

TEST(DeviceSet, AnotherMachineIsRefused) {
  Machine a;
  DeviceSet other;
  other.add(&a.pm);
  const auto bytes = a.save();
  StateReader r(bytes);
  const Status s = other.restore(r);
  ASSERT_FALSE(s.ok());
  EXPECT_NE(s.error().message.find("'uart0' where that of 'acpi_pm'"), std::string::npos)
      << s.error().message;
}

TEST(DeviceSetDeathTest, NamesAreUnique) {
  Machine a;
  EXPECT_DEATH(a.set.add(&a.uart), "uart0");
}

}  // namespace
}  // namespace deja
