// The PCI transport that all virtio devices share (virtio 1.2 section 4.1), without the legacy interface:
// capabilities, the common configuration, notifications, interrupts.
//
// A notification does no work: it makes the queue due after the device's latency, and the work is done, all
// at once, at the first step at which that time has come. So there is never a request half done, and nothing
// of the host decides when it is done.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "devices/pci/msix.h"
#include "devices/pci/pci_bus.h"
#include "devices/virtio/virtio_queue.h"

namespace deja {

// The surroundings of a virtio device.
struct VirtioWiring {
  GuestRam& ram;
  const TimeSource& time;
  MsiSink msi;
};

class VirtioPci : public PciFunction {
 public:
  // Feature bits of every device (section 6).
  static constexpr u64 kRingIndirect = u64{1} << 28, kRingEventIndex = u64{1} << 29, kVersion1 = u64{1} << 32;

  void reset() override;
  void save(StateWriter& w) const override;
  bool restore(StateReader& r) override;
  VtimeNs next_event() const override;
  void advance(VtimeNs now) override;

  u32 config_read(unsigned offset, unsigned size) const override;
  void config_write(unsigned offset, u32 value, unsigned size) override;
  u64 bar_read(unsigned bar, u64 offset, unsigned size) override;
  void bar_write(unsigned bar, u64 offset, u64 value, unsigned size) override;

 protected:
  struct Kind {
    u16 virtio_id;            // section 5: 1 network, 2 block, 3 console, 4 entropy
    u32 class_code;           // class code in PCI configuration space
    u64 features;             // those of this kind of device; those of every device are added
    std::vector<u16> queues;  // the largest size of each
    std::vector<u8> config;   // the device-specific configuration, which nobody writes
    VtimeNs latency;          // from a notification to the work
  };
  VirtioPci(std::string name, Kind kind, VirtioWiring wiring);

  // The work of a queue is due. `chain` stays the callee's until it is given back with finish().
  virtual void serve(unsigned queue) = 0;
  // The driver resets the device: forget what is not of the transport. Also called by reset().
  virtual void driver_reset() {}
  // Called when the driver has set DRIVER_OK.
  virtual void driver_ready() {}

  // The next request of a queue; nothing when there is none, or the queue is broken, which needs_reset() has
  // then told the driver.
  std::optional<VirtioChain> take(unsigned queue);
  void put_back(unsigned queue) { queues_[queue].unpop(); }
  // The request is done.
  void finish(unsigned queue, const VirtioChain& chain, u32 written);
  // Tells the driver of what was finished, if it wants to know.
  void signal(unsigned queue);
  // Asks to be notified of the next request; take() does when there is none.
  void rest(unsigned queue);
  // Is there a request?
  bool waiting(unsigned queue) const;
  // Makes the queue's work due at `when`, or earlier if it was already.
  void schedule(unsigned queue, VtimeNs when);
  // Something that no driver may do: the device stops until it is reset (section 2.1.1).
  void needs_reset(std::string_view why);

  bool has_feature(u64 bit) const { return (driver_features_ & bit) != 0; }
  bool running() const;
  GuestRam& ram() { return wiring_.ram; }
  const GuestRam& ram() const { return wiring_.ram; }
  VtimeNs now() const { return wiring_.time.now(); }

 private:
  u64 common_read(u64 offset, unsigned size) const;
  void common_write(u64 offset, u64 value, unsigned size);
  void window_write(u64 offset, u64 value, unsigned size);
  u64 window_read(u64 offset, unsigned size);
  void set_status(u8 value);
  void reset_device();
  void notified(unsigned queue);
  bool msix_enabled() const;
  bool msix_usable() const;
  void interrupt(u16 vector, u8 isr_bit);
  void update_intx();
  u16 checked_vector(u64 value) const;

  const Kind kind_;
  const u64 offered_;
  VirtioWiring wiring_;
  unsigned msix_capability_ = 0, access_capability_ = 0;
  MsixTable msix_;

  // The state of the transport.
  u8 status_ = 0;
  u8 isr_ = 0;
  u16 selected_queue_ = 0;
  u16 config_vector_ = kVirtioNoVector;
  u32 offered_select_ = 0, driver_select_ = 0;
  u64 driver_features_ = 0;
  std::vector<VirtioQueue> queues_;
  std::vector<VtimeNs> due_;
};

}  // namespace deja
