// Segment descriptors and segment registers (SDM vol. 3A chapters 3 and 5): reading the tables, the checks
// made when a segment register is loaded, and limit checks.
#pragma once

#include "execute/vcpu.h"

namespace deja {

inline bool null_selector(u16 selector) { return (selector & 0xfffc) == 0; }
inline bool is_canonical(u64 address, unsigned linear_bits) {
  return sign_extend(address, linear_bits) == address;
}

// System-segment and gate types (SDM vol. 3A table 3-2).
enum SystemType : u8 {
  kTss16Available = 1,
  kLdt = 2,
  kTss16Busy = 3,
  kCallGate16 = 4,
  kTaskGate = 5,
  kInterruptGate16 = 6,
  kTrapGate16 = 7,
  kTssAvailable = 9,  // 32-bit; 64-bit in IA-32e mode
  kTssBusy = 11,
  kCallGate = 12,
  kInterruptGate = 14,
  kTrapGate = 15,
};

struct Descriptor {
  SystemGva address;  // where it stands
  u64 raw = 0;        // the first 8 bytes
  u64 high = 0;       // the next 8, for the 16-byte descriptors of IA-32e mode

  unsigned type() const { return (raw >> 40) & 15; }
  bool system() const { return !(raw >> 44 & 1); }
  unsigned dpl() const { return (raw >> 45) & 3; }
  bool present() const { return raw >> 47 & 1; }
  bool long_mode() const { return raw >> 53 & 1; }
  bool big() const { return raw >> 54 & 1; }
  bool code() const { return !system() && (type() & 8); }
  bool conforming_code() const { return code() && (type() & 4); }
  bool writable_data() const { return !system() && (type() & 10) == 2; }
  bool readable() const { return !system() && (type() & 10) != 8; }
  u32 limit() const {
    const u32 l = static_cast<u32>(raw & 0xffff) | static_cast<u32>(raw >> 32 & 0xf0000);
    return raw >> 55 & 1 ? l << 12 | 0xfff : l;
  }
  u64 base() const { return (raw >> 16 & 0xffffff) | (raw >> 56 & 0xff) << 24 | high << 32; }
  u16 attr() const { return static_cast<u16>(raw >> 40 & 0xf0ff); }

  // As a gate.
  u16 gate_selector() const { return static_cast<u16>(raw >> 16); }
  u32 gate_offset() const {
    return static_cast<u32>(raw & 0xffff) | static_cast<u32>(raw >> 32 & 0xffff0000);
  }
  u64 gate_offset64() const { return gate_offset() | high << 32; }
};

// A fault whose error code names `selector`; ext is the EXT bit (SDM vol. 3A 6.13).
GuestFault selector_fault(u8 vector, u16 selector, u32 ext = 0);

// Reads the descriptor from GDT or LDT. False when the selector is beyond the table's limit (or the LDT is
// null).
bool find_descriptor(Vcpu& cpu, u16 selector, Descriptor* out);
// The same; raises `vector` with the selector when it is not there.
Descriptor read_descriptor(Vcpu& cpu, u16 selector, u8 vector, u32 ext = 0);
// Adds the second half of a 16-byte descriptor; raises `vector` when it lies beyond the table.
void read_descriptor_high(Vcpu& cpu, u16 selector, Descriptor* d, u8 vector);
// Sets the accessed bit of a code or data descriptor, in memory and in *d.
void mark_accessed(Vcpu& cpu, Descriptor* d);

SegmentRegister make_segment(u16 selector, const Descriptor& d);
// What a selector means in real mode: base = selector * 16, limit and rights stay as they are.
void set_real_mode_segment(SegmentRegister* s, u16 selector);
// …and in virtual-8086 mode: base = selector * 16, 64 KiB, DPL 3.
SegmentRegister v8086_segment(u16 selector);
// SS after a change of privilege in IA-32e mode.
SegmentRegister null_stack_segment(u16 selector, unsigned cpl);

// MOV/POP/LxS to a segment register other than CS, in any mode, with all checks.
void load_segment(Vcpu& cpu, Seg seg, u16 selector);
// A stack segment for privilege level `cpl`, checked as SDM vol. 2A "CALL", "IRET", "INT n" do: `vector` (#GP
// or #TS) for a bad one, #SS when not present. The selector must not be null.
SegmentRegister read_stack_segment(Vcpu& cpu, u16 selector, unsigned cpl, u8 vector, u32 ext = 0);
// On a return to an outer level: unloads data segments that the outer level must not use (SDM vol. 2B "RET").
void unload_inner_segments(CpuState& s);

// May `size` bytes at `offset` be accessed, as far as the limit is concerned? (Not for 64-bit mode.)
bool within_limit(const SegmentRegister& s, u64 offset, unsigned size);
// #GP(ext) unless `rip` is a valid instruction address in code segment `cs`.
void check_branch_target(const Vcpu& cpu, const SegmentRegister& cs, u64 rip, u32 ext = 0);

// Reads the stack pointer and segment that the TSS holds for a privilege level or, in IA-32e mode, for an IST
// entry (1..7, else 0); #TS when they lie beyond its limit.
struct TssStack {
  u16 ss = 0;  // zero in IA-32e mode
  u64 rsp = 0;
};
TssStack read_tss_stack(Vcpu& cpu, unsigned cpl, unsigned ist, u32 ext);

// #GP(0) unless the current privilege level and the TSS's I/O permission bitmap allow access to
// [port, port + size) (SDM vol. 1 19.5). size: 1, 2 or 4.
void check_io_permission(Vcpu& cpu, u16 port, unsigned size);

// Whether any enabled breakpoint register watches data (R/W = 01b or 11b).
bool data_breakpoints_armed(const CpuState& s);
// Leaves the I/O breakpoints (CR4.DE, R/W = 10b) that an access to `port` hits in pending_dbg: a trap.
void note_io_breakpoints(CpuState& s, u16 port, unsigned size);

}  // namespace deja
