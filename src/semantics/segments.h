// Segment descriptors and segment registers (SDM vol. 3A chapters 3 and 5): reading the tables, the checks
// made when a segment register is loaded, and limit checks.
#pragma once

#include "guest/canonical.h"
#include "semantics/descriptor.h"
#include "semantics/vcpu.h"

namespace deja {

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

// What a selector means in real mode: base = selector * 16, limit and rights stay as they are.
void set_real_mode_segment(SegmentRegister* s, u16 selector);
// …and in virtual-8086 mode: base = selector * 16, 64 KiB, DPL 3.
SegmentRegister v8086_segment(u16 selector);

// MOV/POP/LxS to a segment register other than CS, in any mode, with all checks.
void load_segment(Vcpu& cpu, Seg seg, u16 selector);
// A stack segment for privilege level `cpl`, checked as SDM vol. 2A "CALL", "IRET", "INT n" do: `vector` (#GP
// or #TS) for a bad one, #SS when not present. The selector must not be null.
SegmentRegister read_stack_segment(Vcpu& cpu, u16 selector, unsigned cpl, u8 vector, u32 ext = 0);

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
