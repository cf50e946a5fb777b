#include "devices/fw_cfg.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/log.h"

namespace deja {
namespace {

// Ports, from the first: selector, data, and the two halves of the DMA request's address, big-endian.
constexpr u16 kSelector = 0, kData = 1, kDmaHigh = 4, kDmaLow = 8, kPorts = 12;
constexpr u64 kDmaSignature = 0x51454d5520434647;  // "QEMU CFG"
constexpr u32 kVersionTraditional = 1, kVersionDma = 2;

// The request in memory: control and length, 32 bits each, and a 64-bit address, all big-endian.
constexpr u64 kRequestSize = 16;
constexpr u32 kError = 1, kRead = 2, kSkip = 4, kSelect = 8, kWrite = 16;
constexpr VtimeNs kDmaLatency = 1'000;

constexpr std::size_t kNameSize = 56, kEntrySize = 64;

template <class T>
T swapped(T value) {
  T out = 0;
  for (unsigned i = 0; i < sizeof value; ++i) out = static_cast<T>(out << 8 | (value >> (8 * i) & 0xff));
  return out;
}

template <class T>
void put_big_endian(std::vector<u8>& out, T value) {
  for (unsigned i = sizeof value; i-- > 0;) out.push_back(static_cast<u8>(value >> (8 * i)));
}

}  // namespace

FwCfgItems::FwCfgItems() {
  add(kSignature, {'Q', 'E', 'M', 'U'});
  add_number(kId, kVersionTraditional | kVersionDma, 4);
  add(kDirectory, std::vector<u8>(4));
}

void FwCfgItems::add(u16 number, std::vector<u8> bytes) { items_[number] = std::move(bytes); }

void FwCfgItems::add_number(u16 number, u64 value, unsigned size) {
  std::vector<u8> bytes;
  for (unsigned i = 0; i < size; ++i) bytes.push_back(static_cast<u8>(value >> (8 * i)));
  add(number, std::move(bytes));
}

void FwCfgItems::add_file(std::string_view name, std::vector<u8> bytes) {
  DEJA_CHECK(name.size() < kNameSize && name > last_name_, "fw_cfg file {} after {}", name, last_name_);
  last_name_ = name;
  std::vector<u8>& directory = items_[kDirectory];
  put_big_endian(directory, static_cast<u32>(bytes.size()));
  put_big_endian(directory, next_file_);
  put_big_endian(directory, u16{0});
  directory.insert(directory.end(), name.begin(), name.end());
  directory.resize(directory.size() + kNameSize - name.size());
  const u32 count = swapped(static_cast<u32>((directory.size() - 4) / kEntrySize));
  std::memcpy(directory.data(), &count, sizeof count);
  add(next_file_++, std::move(bytes));
}

const std::vector<u8>* FwCfgItems::find(u16 number) const {
  const auto it = items_.find(number);
  return it == items_.end() ? nullptr : &it->second;
}

FwCfg::FwCfg(FwCfgItems items, GuestRam& ram, const TimeSource& time)
    : items_(std::move(items)), ram_(ram), time_(time) {}

void FwCfg::attach(IoBus& bus, u16 port) {
  port_ = port;
  bus.attach_ports(port, kPorts, this);
}

void FwCfg::save(StateWriter& w) const {
  w.field(s_.selected), w.field(s_.offset), w.field(s_.address_high), w.field(s_.request), w.field(s_.due);
}

bool FwCfg::restore(StateReader& r) {
  r.field(s_.selected), r.field(s_.offset), r.field(s_.address_high), r.field(s_.request), r.field(s_.due);
  if (!r.ok()) reset();
  return r.ok();
}

// Behind the end of an item there are zeros.
u8 FwCfg::next_byte() {
  const std::vector<u8>* item = items_.find(s_.selected);
  if (!item || s_.offset >= item->size()) return 0;
  return (*item)[s_.offset++];
}

u32 FwCfg::port_read(u16 port, unsigned size) {
  const unsigned at = port - port_;
  if (at == kData && size == 1) return next_byte();
  if (at < kDmaHigh) return static_cast<u32>(~u64{0} >> (64 - 8 * size));
  // The bytes of the signature, the first at the lowest port.
  u32 value = 0;
  for (unsigned i = 0; i < size; ++i)
    value |= static_cast<u32>(kDmaSignature >> (8 * (7 - (at + i - kDmaHigh))) & 0xff) << (8 * i);
  return value;
}

void FwCfg::port_write(u16 port, u32 value, unsigned size) {
  const unsigned at = port - port_;
  if (at == kSelector && size == 2) {
    s_.selected = static_cast<u16>(value);
    s_.offset = 0;
  } else if (at == kDmaHigh && size == 4) {
    s_.address_high = swapped(value);
  } else if (at == kDmaLow && size == 4) {
    start_dma(u64{s_.address_high} << 32 | swapped(value));
    s_.address_high = 0;
  } else {
    log_debug("devices", "fw_cfg: {}-byte write to port {:#x} ignored", size, port);
  }
}

// One request at a time: firmware waits for the end of each.
void FwCfg::start_dma(u64 request) {
  s_.request = request;
  s_.due = time_.now() + kDmaLatency;
}

void FwCfg::advance(VtimeNs now) {
  if (now < s_.due) return;
  s_.due = kNeverNs;
  u8 bytes[kRequestSize];
  if (!ram_.read(Gpa(s_.request), bytes, sizeof bytes)) {
    log_info("devices", "fw_cfg: no request at {:#x}, where there is no memory", s_.request);
    return;
  }
  u32 control, length;
  u64 address;
  std::memcpy(&control, bytes, 4), std::memcpy(&length, bytes + 4, 4), std::memcpy(&address, bytes + 8, 8);
  control = swapped(control), length = swapped(length), address = swapped(address);
  const bool ok = serve(static_cast<u16>(control >> 16), control, length, address);
  const u32 done = ok ? 0 : swapped(kError);
  ram_.write(Gpa(s_.request), &done, sizeof done);
}

bool FwCfg::serve(u16 select, u32 control, u32 length, u64 address) {
  if (control & kSelect) {
    s_.selected = select;
    s_.offset = 0;
  }
  if (control & kRead) {
    // Checked before anything is made of a length that a guest has chosen.
    if (!ram_.contains(Gpa(address), length) || (length && !ram_.writable(Gpa(address)))) return false;
    const std::vector<u8>* item = items_.find(s_.selected);
    const u64 size = item ? item->size() : 0, from = std::min<u64>(s_.offset, size);
    const u64 there = std::min<u64>(length, size - from);
    if (there) ram_.write(Gpa(address), item->data() + from, there);
    static constexpr u8 kZeros[kPageSize] = {};
    for (u64 at = there; at < length;) {
      const u64 n = std::min<u64>(length - at, sizeof kZeros);
      ram_.write(Gpa(address + at), kZeros, n);
      at += n;
    }
    s_.offset = static_cast<u32>(from + there);
    return true;
  }
  if (control & kSkip) {
    s_.offset = static_cast<u32>(std::min<u64>(u64{s_.offset} + length, ~u32{0}));
    return true;
  }
  return !(control & kWrite);
}

}  // namespace deja
