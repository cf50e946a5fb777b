#include "gdb/stop_conditions.h"

#include <algorithm>

#include "gdb/agent_expression.h"

namespace deja {

bool is_kernel_half(u64 address) { return address >> 47; }

GdbCpu gdb_cpu(Machine& machine, unsigned vcpu) {
  return {machine.cpu(vcpu), machine.cr8_read(vcpu), machine.clock().steps};
}

std::size_t read_guest(Machine& machine, const std::vector<PinnedWatchpoint>& pins, unsigned vcpu,
                       bool physical, u64 address, void* out, std::size_t size) {
  GuestRam& ram = machine.ram();
  const PagingKey key = paging_key(machine.cpu(vcpu));
  u8* to = static_cast<u8*>(out);
  const auto pinned = [&](u64 linear) -> std::optional<Gpa> {
    for (const PinnedWatchpoint& p : pins) {
      u64 offset = linear - p.watchpoint.address;
      if (p.watchpoint.physical || is_kernel_half(linear) || offset >= p.watchpoint.size) continue;
      for (const MemoryPiece& piece : p.pieces) {
        if (offset < piece.size) return piece.at + offset;
        offset -= piece.size;
      }
    }
    return std::nullopt;
  };
  std::size_t done = 0;
  while (done < size) {
    const Gva linear(address + done);
    std::size_t n = static_cast<std::size_t>(std::min<u64>(size - done, kPageSize - linear.offset()));
    std::optional<Gpa> at = Gpa(linear.value);
    if (!physical) {
      at = peek_translation(ram, key, linear);
      if (!pins.empty() && !is_kernel_half(linear.value)) {
        n = 1;  // where a watched range begins and ends is anywhere
        if (const auto fixed = pinned(linear.value)) at = fixed;
      }
    }
    if (!at || !ram.read(*at, to + done, n)) break;
    done += n;
  }
  return done;
}

bool StopConditions::hold(Machine& machine, const Hit& hit) const {
  if (hit.kind == Hit::Kind::turn) return false;
  if (hit.kind != Hit::Kind::breakpoint) return true;
  if (hit.index >= breakpoints.size()) return false;
  const GdbBreakpoint& b = breakpoints[hit.index];
  if (b.conditions.empty()) return true;
  AgentContext context;
  context.reg = [&](u64 n, u64* value) { return gdb_register_value(gdb_cpu(machine, *hit.vcpu), n, value); };
  context.memory = [&](u64 address, void* out, unsigned size) {
    return read_guest(machine, pins, *hit.vcpu, false, address, out, size) == size;
  };
  // What cannot be evaluated is for gdb to look at.
  return std::any_of(b.conditions.begin(), b.conditions.end(), [&](const std::string& code) {
    return evaluate_agent_expression(code, context).value_or(1) != 0;
  });
}

u64 StopConditions::address_of(const GdbWatchpoint& watchpoint, Gpa byte) const {
  for (const PinnedWatchpoint& p : pins) {
    if (p.watchpoint != watchpoint) continue;
    u64 address = watchpoint.address;
    for (const MemoryPiece& piece : p.pieces) {
      if (byte.value - piece.at.value < piece.size) return address + (byte.value - piece.at.value);
      address += piece.size;
    }
  }
  return watchpoint.address;
}

}  // namespace deja
