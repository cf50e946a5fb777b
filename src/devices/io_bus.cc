#include "devices/io_bus.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"

namespace deja {
namespace {

// The range that holds `address`, or nullptr.
template <class Range, class Address>
const Range* find_range(const std::vector<Range>& ranges, Address address) {
  auto it = std::upper_bound(ranges.begin(), ranges.end(), address,
                             [](Address a, const Range& r) { return a < r.first; });
  if (it == ranges.begin()) return nullptr;
  --it;
  return address < it->end ? &*it : nullptr;
}

template <class Range>
void insert_range(std::vector<Range>& ranges, Range range) {
  auto it = std::upper_bound(ranges.begin(), ranges.end(), range.first,
                             [](auto a, const Range& r) { return a < r.first; });
  DEJA_CHECK(it == ranges.end() || range.end <= it->first, "{:#x}..{:#x} overlaps {:#x}..{:#x}", range.first,
             range.end, it->first, it->end);
  DEJA_CHECK(it == ranges.begin() || (it - 1)->end <= range.first, "{:#x}..{:#x} overlaps {:#x}..{:#x}",
             range.first, range.end, (it - 1)->first, (it - 1)->end);
  ranges.insert(it, range);
}

u64 all_ones(unsigned size) { return ~u64{0} >> (64 - 8 * size); }

}  // namespace

void IoBus::attach_ports(u16 first, unsigned count, PortDevice* device) {
  DEJA_CHECK(count > 0 && first + count <= 0x10000, "ports {:#x}+{:#x}", first, count);
  insert_range(ports_, PortRange{first, first + count, device});
}

void IoBus::attach_mmio(Gpa base, u64 size, MmioDevice* device) {
  DEJA_CHECK(size > 0 && base.value + size > base.value, "window {:#x}+{:#x}", base.value, size);
  insert_range(mmio_, MmioRange{base.value, base.value + size, device});
}

const IoBus::PortRange* IoBus::find_port(u32 port) const { return find_range(ports_, port); }

const IoBus::MmioRange* IoBus::find_mmio(u64 address, unsigned size) const {
  const MmioRange* r = find_range(mmio_, address);
  return r && r->end - address >= size ? r : nullptr;
}

u32 IoBus::port_read(u16 port, unsigned size) {
  if (const PortRange* r = find_port(port); r && port + size <= r->end)
    return r->device->port_read(port, size);
  u32 value = 0;
  for (unsigned i = 0; i < size; i++) {
    const u16 p = static_cast<u16>(port + i);
    const PortRange* r = find_port(p);
    value |= (r ? r->device->port_read(p, 1) & 0xff : 0xff) << (8 * i);
  }
  return value;
}

void IoBus::port_write(u16 port, u32 value, unsigned size) {
  if (const PortRange* r = find_port(port); r && port + size <= r->end)
    return r->device->port_write(port, value, size);
  for (unsigned i = 0; i < size; i++) {
    const u16 p = static_cast<u16>(port + i);
    if (const PortRange* r = find_port(p)) r->device->port_write(p, (value >> (8 * i)) & 0xff, 1);
  }
}

u64 IoBus::mmio_read(Gpa address, unsigned size) {
  if (const MmioRange* r = find_mmio(address.value, size))
    return r->device->mmio_read(address.value - r->first, size) & all_ones(size);
  log_debug("devices", "read of {} bytes at {:#x}: no device there", size, address.value);
  return all_ones(size);
}

void IoBus::mmio_write(Gpa address, u64 value, unsigned size) {
  if (const MmioRange* r = find_mmio(address.value, size))
    return r->device->mmio_write(address.value - r->first, value & all_ones(size), size);
  log_debug("devices", "write of {:#x}, {} bytes, at {:#x}: no device there", value, size, address.value);
}

}  // namespace deja
