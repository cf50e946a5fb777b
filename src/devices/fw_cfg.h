// The firmware configuration device of QEMU (docs/specs/fw_cfg.rst there): items of data that firmware reads
// by number, or by name through a directory, byte by byte from a port or by DMA. Nothing can be written.
//
// A DMA request is carried out whole after a fixed latency, between two instructions, as virtio devices work.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "devices/device.h"
#include "devices/io_bus.h"
#include "guest/ram.h"

namespace deja {

// The items to read, fixed once the machine is built.
class FwCfgItems {
 public:
  // Numbers that firmware knows.
  static constexpr u16 kSignature = 0x00, kId = 0x01, kRamSize = 0x03, kCpuCount = 0x05, kMaxCpus = 0x0f,
                       kDirectory = 0x19, kFirstFile = 0x20;

  FwCfgItems();
  void add(u16 number, std::vector<u8> bytes);
  void add_number(u16 number, u64 value, unsigned size);  // little-endian
  // `name`: at most 55 characters; names are added in ascending order.
  void add_file(std::string_view name, std::vector<u8> bytes);
  // Null for an item that does not exist.
  const std::vector<u8>* find(u16 number) const;

 private:
  std::map<u16, std::vector<u8>> items_;
  u16 next_file_ = kFirstFile;
  std::string last_name_;
};

class FwCfg final : public Device, public PortDevice {
 public:
  struct State {
    u16 selected = 0;
    u32 offset = 0;        // offset of the next byte within the item
    u32 address_high = 0;  // upper half of the DMA request's address, as written
    u64 request = 0;       // physical address of the request in progress
    VtimeNs due = kNeverNs;
  };

  FwCfg(FwCfgItems items, GuestRam& ram, const TimeSource& time);
  void attach(IoBus& bus, u16 port);  // twelve ports

  std::string_view name() const override { return "fw_cfg"; }
  void reset() override { s_ = State{}; }
  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;
  VtimeNs next_event() const override { return s_.due; }
  void advance(VtimeNs now) override;

  u32 port_read(u16 port, unsigned size) override;
  void port_write(u16 port, u32 value, unsigned size) override;

 private:
  u8 next_byte();
  void start_dma(u64 request);
  // False when the request touches anything but memory, or asks for an item that does not exist.
  bool serve(u16 select, u32 control, u32 length, u64 address);

  const FwCfgItems items_;
  GuestRam& ram_;
  const TimeSource& time_;
  u16 port_ = 0;
  State s_;
};

}  // namespace deja
