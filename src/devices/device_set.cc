#include "devices/device_set.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <string>

#include "base/check.h"

namespace deja {

void DeviceSet::add(Device* device) {
  DEJA_CHECK(!device->name().empty() && device->name().size() < 256);
  for (const Device* d : devices_) DEJA_CHECK(d->name() != device->name(), "two devices named {}", d->name());
  devices_.push_back(device);
}

void DeviceSet::reset() {
  for (Device* d : devices_) d->reset();
}

void DeviceSet::save(StateWriter& w) const {
  for (const Device* d : devices_) {
    StateWriter one;
    d->save(one);
    w.field(static_cast<u8>(d->name().size()));
    w.bytes(d->name().data(), d->name().size());
    w.field(static_cast<u32>(one.data().size()));
    w.bytes(one.data().data(), one.data().size());
  }
}

Status DeviceSet::restore(StateReader& r) {
  constexpr u32 kLargestState = 64 << 20;
  for (Device* d : devices_) {
    const std::size_t start = r.position();
    u8 length = 0;
    r.field(length);
    std::string name(length, '\0');
    r.bytes(name.data(), name.size());
    if (r.ok() && name != d->name())
      return make_error("saved devices: byte {}: found the state of '{}' where that of '{}' should be", start,
                        name, d->name());
    u32 size = 0;
    r.field(size);
    if (!r.ok() || size > kLargestState)
      return make_error("saved devices: byte {}: the state of '{}' is cut off or damaged", start, d->name());
    std::string bytes(size, '\0');
    r.bytes(bytes.data(), bytes.size());
    StateReader one{std::string_view(bytes)};
    if (!r.ok() || !d->restore(one) || !one.at_end()) {
      d->reset();
      return make_error("saved devices: byte {}: the state of '{}' is cut off or damaged", start, d->name());
    }
  }
  return {};
}

u64 DeviceSet::digest() const {
  StateWriter w;
  save(w);
  return XXH3_64bits(w.data().data(), w.data().size());
}

}  // namespace deja
