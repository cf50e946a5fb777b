#include "devices/virtio/virtio_pci.h"

#include <algorithm>

#include "base/check.h"
#include "base/log.h"

namespace deja {
namespace {

constexpr u16 kVendor = 0x1af4, kDeviceBase = 0x1040;
// They say that there is no legacy interface (4.1.2.1): a revision that is not 0, and a subsystem of at least
// 40h. Some drivers want to see both.
constexpr u8 kRevision = 1;
constexpr u16 kSubsystem = 0x1100;

constexpr unsigned kMsixBar = 1, kWindowBar = 4;
// The parts of the window.
constexpr u64 kCommonOffset = 0x0000, kIsrOffset = 0x1000, kDeviceOffset = 0x2000, kNotifyOffset = 0x3000,
              kWindowSize = 0x4000;
constexpr u32 kNotifyMultiplier = 4;  // bytes of the notification area per queue

// Capabilities (4.1.4).
constexpr u8 kVendorCapability = 0x09, kMsixCapability = 0x11;
enum CfgType : u8 { kCommonCfg = 1, kNotifyCfg = 2, kIsrCfg = 3, kDeviceCfg = 4, kPciCfg = 5 };
constexpr u16 kMsixEnable = 0x8000, kMsixFunctionMask = 0x4000;

// Device status (2.1).
constexpr u8 kAcknowledge = 1, kDriver = 2, kDriverOk = 4, kFeaturesOk = 8, kNeedsReset = 64, kFailed = 128;
constexpr u8 kStatusWritable = kAcknowledge | kDriver | kDriverOk | kFeaturesOk | kFailed;

constexpr u8 kIsrQueue = 1, kIsrConfig = 2;

// Fields of the common configuration (4.1.4.3).
enum Common : u64 {
  kDeviceFeatureSelect = 0x00,
  kDeviceFeature = 0x04,
  kDriverFeatureSelect = 0x08,
  kDriverFeature = 0x0c,
  kConfigMsixVector = 0x10,
  kNumQueues = 0x12,
  kDeviceStatus = 0x14,
  kConfigGeneration = 0x15,
  kQueueSelect = 0x16,
  kQueueSize = 0x18,
  kQueueMsixVector = 0x1a,
  kQueueEnable = 0x1c,
  kQueueNotifyOff = 0x1e,
  kQueueDesc = 0x20,
  kQueueDriver = 0x28,
  kQueueDevice = 0x30,
  kCommonEnd = 0x38,
};

std::vector<u8> virtio_capability(CfgType type, u64 offset, u32 length, bool notify) {
  std::vector<u8> body{static_cast<u8>(notify ? 20 : 16), type, static_cast<u8>(kWindowBar), 0, 0, 0};
  const auto word = [&](u32 x) {
    for (int i = 0; i < 4; ++i) body.push_back(static_cast<u8>(x >> (8 * i)));
  };
  word(static_cast<u32>(offset));
  word(length);
  if (notify) word(kNotifyMultiplier);
  return body;
}

// Replaces half of a 64-bit field, or all of it.
void write_part(u64& field, u64 at, u64 value, unsigned size) {
  if (size == 8)
    field = value;
  else if (at == 0)
    field = (field & ~u64{0xffffffff}) | (value & 0xffffffff);
  else
    field = (field & 0xffffffff) | value << 32;
}

}  // namespace

VirtioPci::VirtioPci(std::string name, Kind kind, VirtioWiring wiring)
    : PciFunction(std::move(name), {kVendor, static_cast<u16>(kDeviceBase + kind.virtio_id), kind.class_code,
                                    kRevision, kVendor, kSubsystem}),
      kind_(std::move(kind)),
      offered_(kind_.features | kRingIndirect | kRingEventIndex | kVersion1),
      wiring_(std::move(wiring)),
      msix_(static_cast<unsigned>(kind_.queues.size()) + 1, wiring_.msi) {
  add_bar(kMsixBar, BarKind::memory32, MsixTable::kWindowSize);
  add_bar(kWindowBar, BarKind::memory32, kWindowSize);
  add_interrupt_pin();
  add_capability(kVendorCapability, virtio_capability(kCommonCfg, kCommonOffset, kCommonEnd, false));
  add_capability(kVendorCapability, virtio_capability(kIsrCfg, kIsrOffset, 1, false));
  if (!kind_.config.empty())
    add_capability(kVendorCapability, virtio_capability(kDeviceCfg, kDeviceOffset,
                                                        static_cast<u32>(kind_.config.size()), false));
  add_capability(kVendorCapability,
                 virtio_capability(kNotifyCfg, kNotifyOffset,
                                   static_cast<u32>(kind_.queues.size()) * kNotifyMultiplier, true));
  // The window through configuration space (4.1.4.9): which bar, offset and length the driver chooses.
  std::vector<u8> access = virtio_capability(kPciCfg, 0, 0, false);
  access.resize(access.size() + 4);
  access_capability_ = add_capability(kVendorCapability, access);
  add_register(access_capability_ + 4, 1, 0, 0xff);
  add_register(access_capability_ + 8, 4, 0, ~u32{0});
  add_register(access_capability_ + 12, 4, 0, ~u32{0});
  std::vector<u8> msix(10);
  msix_capability_ = add_capability(kMsixCapability, msix);
  add_register(msix_capability_ + 2, 2, msix_.vectors() - 1, kMsixEnable | kMsixFunctionMask);
  add_register(msix_capability_ + 4, 4, kMsixBar, 0);
  add_register(msix_capability_ + 8, 4, MsixTable::kPendingOffset | kMsixBar, 0);
  for (const u16 size : kind_.queues) queues_.emplace_back(size);
  due_.assign(queues_.size(), kNeverNs);
}

void VirtioPci::reset() {
  PciFunction::reset();
  msix_.reset();
  reset_device();
}

void VirtioPci::reset_device() {
  status_ = 0;
  isr_ = 0;
  selected_queue_ = 0;
  config_vector_ = kVirtioNoVector;
  offered_select_ = driver_select_ = 0;
  driver_features_ = 0;
  for (VirtioQueue& q : queues_) q.reset();
  std::fill(due_.begin(), due_.end(), kNeverNs);
  driver_reset();
  update_intx();
}

void VirtioPci::save(StateWriter& w) const {
  PciFunction::save(w);
  msix_.save(w);
  w.field(status_), w.field(isr_), w.field(selected_queue_), w.field(config_vector_);
  w.field(offered_select_), w.field(driver_select_), w.field(driver_features_);
  for (const VirtioQueue& q : queues_) q.save(w);
  for (const VtimeNs t : due_) w.field(t);
}

bool VirtioPci::restore(StateReader& r) {
  bool ok = PciFunction::restore(r) && msix_.restore(r);
  r.field(status_), r.field(isr_), r.field(selected_queue_), r.field(config_vector_);
  r.field(offered_select_), r.field(driver_select_), r.field(driver_features_);
  ok = ok && !(status_ & ~(kStatusWritable | kNeedsReset)) && !(isr_ & ~(kIsrQueue | kIsrConfig)) &&
       !(driver_features_ & ~offered_);
  for (VirtioQueue& q : queues_) ok = ok && q.restore(r);
  for (VtimeNs& t : due_) r.field(t);
  ok = ok && r.ok();
  if (!ok) reset();
  return ok;
}

// --- Configuration space.

bool VirtioPci::msix_enabled() const { return config(msix_capability_ + 2, 2) & kMsixEnable; }

bool VirtioPci::msix_usable() const {
  return (config(msix_capability_ + 2, 2) & (kMsixEnable | kMsixFunctionMask)) == kMsixEnable && bus_master();
}

// Reading has side effects only in the ISR status, which the window below reaches too.
u32 VirtioPci::config_read(unsigned offset, unsigned size) const {
  if (offset >= access_capability_ + 16 && offset < access_capability_ + 20) {
    const u64 at = config(access_capability_ + 8, 4), length = config(access_capability_ + 12, 4);
    if (config(access_capability_ + 4, 1) != kWindowBar || (length != 1 && length != 2 && length != 4) ||
        at % length || at >= kWindowSize)
      return 0;
    return static_cast<u32>(const_cast<VirtioPci*>(this)->window_read(at, static_cast<unsigned>(length)));
  }
  return PciFunction::config_read(offset, size);
}

void VirtioPci::config_write(unsigned offset, u32 value, unsigned size) {
  const bool was_usable = msix_usable();
  PciFunction::config_write(offset, value, size);
  if (offset >= access_capability_ + 16 && offset < access_capability_ + 20) {
    const u64 at = config(access_capability_ + 8, 4), length = config(access_capability_ + 12, 4);
    if (config(access_capability_ + 4, 1) == kWindowBar && (length == 1 || length == 2 || length == 4) &&
        at % length == 0 && at < kWindowSize)
      window_write(at, value, static_cast<unsigned>(length));
  }
  if (!was_usable && msix_usable()) msix_.flush();
  update_intx();
}

// --- The BARs.

u64 VirtioPci::bar_read(unsigned bar, u64 offset, unsigned size) {
  return bar == kMsixBar ? msix_.read(offset, size) : window_read(offset, size);
}

void VirtioPci::bar_write(unsigned bar, u64 offset, u64 value, unsigned size) {
  if (bar == kMsixBar)
    msix_.write(offset, value, size, msix_usable());
  else
    window_write(offset, value, size);
}

u64 VirtioPci::window_read(u64 offset, unsigned size) {
  if (offset < kCommonEnd) return common_read(offset, size);
  if (offset == kIsrOffset) {
    const u8 value = isr_;
    isr_ = 0;
    update_intx();
    return value;
  }
  if (offset >= kDeviceOffset && offset < kNotifyOffset) {
    u64 value = 0;
    for (unsigned i = 0; i < size; ++i) {
      const u64 at = offset - kDeviceOffset + i;
      if (at < kind_.config.size()) value |= u64{kind_.config[at]} << (8 * i);
    }
    return value;
  }
  return 0;
}

void VirtioPci::window_write(u64 offset, u64 value, unsigned size) {
  if (offset < kCommonEnd) return common_write(offset, value, size);
  if (offset < kNotifyOffset) return;
  const u64 queue = (offset - kNotifyOffset) / kNotifyMultiplier;
  if (queue < queues_.size()) notified(static_cast<unsigned>(queue));
}

u64 VirtioPci::common_read(u64 offset, unsigned size) const {
  const VirtioQueue* q = selected_queue_ < queues_.size() ? &queues_[selected_queue_] : nullptr;
  const auto part = [&](u64 field, u64 base) { return field >> (8 * (offset - base)); };
  switch (offset) {
    case kDeviceFeatureSelect:
      return offered_select_;
    case kDeviceFeature:
      return offered_select_ < 2 ? offered_ >> (32 * offered_select_) & 0xffffffff : 0;
    case kDriverFeatureSelect:
      return driver_select_;
    case kDriverFeature:
      return driver_select_ < 2 ? driver_features_ >> (32 * driver_select_) & 0xffffffff : 0;
    case kConfigMsixVector:
      return config_vector_;
    case kNumQueues:
      return queues_.size();
    case kDeviceStatus:
      return status_;
    case kConfigGeneration:
      return 0;
    case kQueueSelect:
      return selected_queue_;
    case kQueueSize:
      return q ? q->state.size : 0;
    case kQueueMsixVector:
      return q ? q->state.vector : kVirtioNoVector;
    case kQueueEnable:
      return q && q->state.enabled;
    case kQueueNotifyOff:
      return q ? selected_queue_ : 0;
    case kQueueDesc:
    case kQueueDesc + 4:
      return q ? part(q->state.descriptors, kQueueDesc) : 0;
    case kQueueDriver:
    case kQueueDriver + 4:
      return q ? part(q->state.driver, kQueueDriver) : 0;
    case kQueueDevice:
    case kQueueDevice + 4:
      return q ? part(q->state.device, kQueueDevice) : 0;
    default:
      return 0;
  }
}

u16 VirtioPci::checked_vector(u64 value) const {
  return value < msix_.vectors() ? static_cast<u16>(value) : kVirtioNoVector;
}

void VirtioPci::common_write(u64 offset, u64 value, unsigned size) {
  switch (offset) {
    case kDeviceFeatureSelect:
      offered_select_ = static_cast<u32>(value);
      return;
    case kDriverFeatureSelect:
      driver_select_ = static_cast<u32>(value);
      return;
    case kDriverFeature:
      if (driver_select_ < 2 && !(status_ & kFeaturesOk)) {
        const unsigned shift = 32 * driver_select_;
        driver_features_ = (driver_features_ & ~(u64{0xffffffff} << shift)) | (value & 0xffffffff) << shift;
        driver_features_ &= offered_;
      }
      return;
    case kConfigMsixVector:
      config_vector_ = checked_vector(value);
      return;
    case kDeviceStatus:
      return set_status(static_cast<u8>(value));
    case kQueueSelect:
      selected_queue_ = static_cast<u16>(value);
      return;
    default:
      break;
  }
  if (selected_queue_ >= queues_.size()) return;
  VirtioQueue& queue = queues_[selected_queue_];
  VirtioQueue::State& q = queue.state;
  switch (offset) {
    case kQueueMsixVector:
      q.vector = checked_vector(value);
      return;
    case kQueueEnable:
      q.enabled = q.enabled || value == 1;
      return;
    default:
      break;
  }
  if (q.enabled) return;  // the driver must not change these any more (4.1.4.3.2)
  switch (offset) {
    case kQueueSize:
      if (value && !(value & (value - 1)) && value <= queue.max_size()) q.size = static_cast<u16>(value);
      return;
    case kQueueDesc:
    case kQueueDesc + 4:
      return write_part(q.descriptors, offset - kQueueDesc, value, size);
    case kQueueDriver:
    case kQueueDriver + 4:
      return write_part(q.driver, offset - kQueueDriver, value, size);
    case kQueueDevice:
    case kQueueDevice + 4:
      return write_part(q.device, offset - kQueueDevice, value, size);
    default:
      return;
  }
}

void VirtioPci::set_status(u8 value) {
  if (value == 0) return reset_device();
  const u8 before = status_;
  status_ = static_cast<u8>((value & kStatusWritable) | (status_ & kNeedsReset));
  // A driver that does not know the rings of version 1 must not go on (3.1.1).
  if (!has_feature(kVersion1)) status_ &= static_cast<u8>(~kFeaturesOk);
  if (!(before & kDriverOk) && running()) driver_ready();
}

bool VirtioPci::running() const { return (status_ & (kDriverOk | kNeedsReset | kFailed)) == kDriverOk; }

// --- Queues.

void VirtioPci::notified(unsigned queue) {
  if (running() && queues_[queue].state.enabled) schedule(queue, now() + kind_.latency);
}

void VirtioPci::schedule(unsigned queue, VtimeNs when) { due_[queue] = std::min(due_[queue], when); }

VtimeNs VirtioPci::next_event() const {
  return due_.empty() ? kNeverNs : *std::min_element(due_.begin(), due_.end());
}

void VirtioPci::advance(VtimeNs now) {
  for (unsigned q = 0; q < queues_.size(); ++q) {
    if (due_[q] > now) continue;
    due_[q] = kNeverNs;
    // A device that may not use the bus can do nothing, and is not notified again: so it is with hardware.
    if (running() && bus_master()) serve(q);
  }
}

std::optional<VirtioChain> VirtioPci::take(unsigned queue) {
  VirtioChain chain;
  switch (queues_[queue].pop(ram(), &chain)) {
    case VirtioQueue::Pop::chain:
      return chain;
    case VirtioQueue::Pop::broken:
      needs_reset(fmt::format("queue {}: a request that makes no sense", queue));
      break;
    case VirtioQueue::Pop::empty:
      rest(queue);
      break;
  }
  return std::nullopt;
}

void VirtioPci::rest(unsigned queue) {
  if (has_feature(kRingEventIndex) && queues_[queue].state.enabled &&
      !queues_[queue].ask_for_notification(ram()))
    needs_reset(fmt::format("queue {}: its ring is not in memory", queue));
}

bool VirtioPci::waiting(unsigned queue) const { return running() && queues_[queue].has_available(ram()); }

void VirtioPci::finish(unsigned queue, const VirtioChain& chain, u32 written) {
  if (!queues_[queue].push(ram(), chain.head, written))
    needs_reset(fmt::format("queue {}: its ring is not in memory", queue));
}

void VirtioPci::signal(unsigned queue) {
  if (queues_[queue].should_signal(ram(), has_feature(kRingEventIndex)))
    interrupt(queues_[queue].state.vector, kIsrQueue);
}

void VirtioPci::needs_reset(std::string_view why) {
  log_info("devices", "{}: {}; the device stops until its driver resets it", name(), why);
  status_ |= kNeedsReset;
  std::fill(due_.begin(), due_.end(), kNeverNs);
  interrupt(config_vector_, kIsrConfig);
}

void VirtioPci::interrupt(u16 vector, u8 isr_bit) {
  if (msix_enabled()) {
    if (vector != kVirtioNoVector) msix_.raise(vector, msix_usable());
    return;
  }
  isr_ |= isr_bit;
  update_intx();
}

void VirtioPci::update_intx() { drive_intx(isr_ != 0 && !msix_enabled() && !intx_disabled()); }

}  // namespace deja
