#include "semantics/stack_frame.h"

#include "semantics/segments.h"
#include "semantics/system.h"

namespace deja {
namespace {

u64 truncate(u64 value, unsigned width) {
  return width == 8 ? value : width == 4 ? static_cast<u32>(value) : static_cast<u16>(value);
}

}  // namespace

void set_stack_pointer(CpuState& s, unsigned width, u64 value) {
  if (width == 2) value = (s.gpr[RSP] & ~u64{0xffff}) | static_cast<u16>(value);
  s.gpr[RSP] = width == 4 ? static_cast<u32>(value) : value;
}

StackWriter::StackWriter(Vcpu& cpu, const SegmentRegister& ss, u64 rsp, unsigned width, Rights rights,
                         u32 error)
    : cpu_(cpu), ss_(ss), rsp_(truncate(rsp, width)), width_(width), rights_(rights), error_(error) {}

StackWriter::StackWriter(Vcpu& cpu)
    : StackWriter(cpu, cpu.state.seg[SS], cpu.state.gpr[RSP], stack_width(cpu.state), Rights::current, 0) {}

void StackWriter::push(u64 value, unsigned size) {
  rsp_ = truncate(rsp_ - size, width_);
  Gva address;
  if (width_ == 8) {
    if (!is_canonical(cpu_.state, rsp_, size)) throw fault_ss(error_);
    address = Gva(rsp_);
  } else {
    if (!within_limit(ss_, rsp_, size)) throw fault_ss(error_);
    address = Gva(static_cast<u32>(ss_.base + rsp_));
  }
  if (rights_ == Rights::current) check_alignment(cpu_, address, size);

  DEJA_CHECK(push_count_ < kMaxPushes && used_ + size <= kMaxBytes);
  pushes_[push_count_++] = {address, static_cast<u8>(size)};
  used_ += size;
  const unsigned start = kMaxBytes - used_;
  std::memcpy(bytes_ + start, &value, size);
  if (run_count_ && runs_[run_count_ - 1].address == address + size) {
    Run& run = runs_[run_count_ - 1];
    run = {address, start, run.size + size};
  } else {
    DEJA_CHECK(run_count_ < std::size(runs_));
    runs_[run_count_++] = {address, start, size};
  }
}

void StackWriter::commit() {
  // Inside one page the first push fails or none does.
  const bool one_page = run_count_ == 1 && runs_[0].address.offset() + runs_[0].size <= kPageSize;
  const auto write = [&](const Run& run) {
    with_address(run.address,
                 [&](auto at) { cpu_.mmu.write_bytes(at, bytes_ + run.start, run.size, rights_); });
  };
  if (one_page) {
    try {
      return write(runs_[0]);
    } catch (GuestFault& fault) {
      if (fault.vector == kPF) fault.cr2 = pushes_[0].address.value;
      throw;
    }
  }
  for (unsigned i = 0; i < push_count_; ++i)
    with_address(pushes_[i].address,
                 [&](auto at) { cpu_.mmu.probe(at, pushes_[i].size, Access::write, rights_); });
  for (unsigned i = 0; i < run_count_; ++i) write(runs_[i]);
}

StackReader::StackReader(Vcpu& cpu)
    : cpu_(cpu), width_(stack_width(cpu.state)), rsp_(truncate(cpu.state.gpr[RSP], width_)) {}

u64 StackReader::pop(unsigned size) {
  const Gva address = linear_address(cpu_, SS, rsp_, size, Access::read);
  check_alignment(cpu_, address, size);
  u64 value = 0;
  cpu_.mmu.read_bytes(address, &value, size);
  rsp_ = truncate(rsp_ + size, width_);
  return value;
}

void StackReader::skip(u64 bytes) { rsp_ = truncate(rsp_ + bytes, width_); }

}  // namespace deja
