#include "gdb/stop_conditions.h"

#include <algorithm>

#include "gdb/agent_expression.h"
#include "query/write_codec.h"

namespace deja {

template <class A>
void serialize(A& a, GdbWatchpoint& w) {
  a.field(w.kind);
  a.field(w.address);
  a.field(w.size);
  a.field(w.physical);
}

template <class A>
void serialize(A& a, PinnedWatchpoint& p) {
  serialize(a, p.watchpoint);
  list_field(a, p.pieces);
  a.field(p.cr3);
}

template <class A>
void serialize(A& a, std::string& text) {
  text_field(a, text);
}

template <class A>
void serialize(A& a, GdbBreakpoint& b) {
  a.field(b.pc);
  a.field(b.hardware);
  list_field(a, b.conditions);
}

template <class A>
void serialize(A& a, StopConditions& s) {
  list_field(a, s.breakpoints);
  list_field(a, s.pins);
}

namespace {

constexpr u32 kVersion = 1;

Result<HitTest> make_gdb_stops(const ValueBytes& parameters) {
  DEJA_ASSIGN(StopConditions conditions,
              from_bytes<StopConditions>(kVersion, "gdb's conditions", parameters));
  return HitTest([conditions = std::move(conditions)](Machine& machine, const Hit& hit) {
    return conditions.hold(machine, hit);
  });
}

const HitFilterKind kGdbStops{"gdb-stops", make_gdb_stops};

// Bytes from an address on that lie together: in the memory that a watchpoint is pinned to, or where the
// address leads to now.
struct Stretch {
  std::optional<Gpa> pinned;
  u64 size;
};

Stretch stretch_at(const std::vector<PinnedWatchpoint>& pins, u64 address, u64 most) {
  Stretch out{{}, most};
  if (is_kernel_half(address)) return out;
  for (const PinnedWatchpoint& p : pins) {
    if (p.watchpoint.physical) continue;
    if (p.watchpoint.address > address) out.size = std::min(out.size, p.watchpoint.address - address);
    u64 offset = address - p.watchpoint.address;
    if (out.pinned || offset >= p.watchpoint.size) continue;
    for (const MemoryPiece& piece : p.pieces) {
      if (offset < piece.size) {
        out.pinned = piece.at + offset;
        out.size = std::min(out.size, piece.size - offset);
        break;
      }
      offset -= piece.size;
    }
  }
  return out;
}

}  // namespace

GdbCpu gdb_cpu(Machine& machine, unsigned vcpu) {
  return {machine.cpu(vcpu), machine.cr8_read(vcpu), machine.clock().steps};
}

std::size_t read_pinned(const GuestView& memory, const std::vector<PinnedWatchpoint>& pins, u64 address,
                        void* out, std::size_t size) {
  if (memory.is_physical()) return memory.read_some(address, out, size);
  const GuestView physical = GuestView::physical(memory.machine());
  u8* const to = static_cast<u8*>(out);
  std::size_t done = 0;
  while (done < size) {
    const Stretch s = stretch_at(pins, address + done, size - done);
    const u64 got = s.pinned ? physical.read_some(s.pinned->value, to + done, s.size)
                             : memory.read_some(address + done, to + done, s.size);
    done += got;
    if (got < s.size) break;
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
    return read_pinned(GuestView::of_vcpu(machine, *hit.vcpu), pins, address, out, size) == size;
  };
  // What cannot be evaluated is for gdb to look at.
  return std::any_of(b.conditions.begin(), b.conditions.end(), [&](const std::string& code) {
    return evaluate_agent_expression(code, context).value_or(1) != 0;
  });
}

HitFilter StopConditions::filter() const {
  return {std::string(kGdbStops.name()), to_bytes(kVersion, *this)};
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
