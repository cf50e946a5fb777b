// A virtual CPU as C++ code sees it: the architectural state, memory through segmentation-free linear
// addresses, and the rest of the machine. Semantics of instructions that are not translated inline are
// written against this.
#pragma once

#include "decode/insn.h"
#include "guest/clock.h"
#include "guest/cpu_model.h"
#include "guest/cpu_state.h"
#include "guest/fault.h"
#include "guest/page_walk.h"
#include "guest/platform.h"
#include "guest/ram.h"
#include "semantics/system_gva.h"

namespace deja {

// The rights of an access. `current`: the CPL decides; `supervisor`: implicit system accesses (descriptor
// tables, TSS, exception frames pushed after a switch to CPL 0); these ignore CPL and are subject to SMAP as
// implicit accesses (SDM vol. 3A 4.6.1).
enum class Rights : u8 { current, supervisor, user };

struct Vcpu;

// Linear memory of one vCPU. All functions throw GuestFault (#PF, or #GP/#SS(0) for a non-canonical address)
// before anything changed, except where a write straddles two pages, which is probed first. Accesses to
// non-RAM go to Platform::mmio_*, writes to tracked pages invalidate what was derived from them.
class Mmu {
 public:
  virtual ~Mmu() = default;

  virtual void read_bytes(Gva address, void* out, unsigned size, Rights rights = Rights::current) = 0;
  virtual void write_bytes(Gva address, const void* data, unsigned size, Rights rights = Rights::current) = 0;
  // Raises what a write (or read) of that range would raise, setting A/D bits as the access would.
  virtual void probe(Gva address, unsigned size, Access access, Rights rights = Rights::current) = 0;
  // The same for the processor's own accesses.
  virtual void read_bytes(SystemGva address, void* out, unsigned size,
                          Rights rights = Rights::supervisor) = 0;
  virtual void write_bytes(SystemGva address, const void* data, unsigned size,
                           Rights rights = Rights::supervisor) = 0;
  virtual void probe(SystemGva address, unsigned size, Access access, Rights rights = Rights::supervisor) = 0;
  // Instruction bytes at a linear address; returns how many could be fetched (up to size, at least 1, stops
  // at a page that cannot be fetched from); throws when the first byte cannot.
  virtual unsigned fetch(Gva address, u8* out, unsigned size) = 0;
  // Host memory behind a range that lies inside one page, for bulk work (REP MOVS and kin): has the rights
  // checks and the A/D effects of the access, throws like read_bytes/write_bytes. RAM does not move: the
  // pointer is good for the rest of the instruction. nullptr when the page is not plain RAM (MMIO; for writes
  // also tracked pages): then use read_bytes/write_bytes. map_write marks the page dirty.
  virtual const u8* map_read(Gva address, unsigned size) = 0;
  virtual u8* map_write(Gva address, unsigned size) = 0;
  // Physical memory, for page-directory-pointer loads and the like; false when not RAM.
  virtual bool read_physical(Gpa address, void* out, unsigned size) = 0;

  // To be called after CR0, CR3, CR4, EFER, CPL-independent paging state or PDPTEs changed.
  virtual void paging_changed() = 0;

  template <class T>
  T read(Gva address, Rights rights = Rights::current) {
    T value;
    read_bytes(address, &value, sizeof value, rights);
    return value;
  }
  template <class T>
  void write(Gva address, T value, Rights rights = Rights::current) {
    write_bytes(address, &value, sizeof value, rights);
  }
  template <class T>
  T read(SystemGva address) {
    T value;
    read_bytes(address, &value, sizeof value);
    return value;
  }
  template <class T>
  void write(SystemGva address, T value) {
    write_bytes(address, &value, sizeof value);
  }
};

struct Vcpu {
  CpuState& state;
  Mmu& mmu;
  Platform& platform;
  const Clock& clock;
  const CpuModel& model;
  unsigned vcpu_count = 1;  // of the machine; CPUID reports it
  // Where execution goes on when the current instruction completes. A helper that transfers control sets it.
  u64 next_rip = 0;
  // The instruction has moved the TSC, and with it the local APIC's TSC deadline. The caller clears it.
  bool tsc_moved = false;

  // --- x87/SSE/AVX registers live in the host's while the guest runs. Helpers that touch state.fpu bracket
  // the access: after fpu_to_memory() state.fpu is current; after changing it, fpu_from_memory() makes it
  // effective. (YMM registers and MXCSR too.) Both are cheap to call twice.
  void (*fpu_to_memory)(Vcpu&) = nullptr;
  void (*fpu_from_memory)(Vcpu&) = nullptr;
};

// The semantics of an instruction done in C++. On entry state.rip is the instruction's own address and
// next_rip the one after it; on return the caller sets rip = next_rip. May throw GuestFault, having changed
// nothing. A helper that wants to run again (a REP with work left) sets next_rip = state.rip.
using InsnFunction = void (*)(Vcpu& cpu, const Insn& insn);

inline constexpr bool kTrapsByNewFlags = true;

// And what its caller has to know of it.
struct Helper {
  InsnFunction function = nullptr;  // null: none
  // RFLAGS.TF as the instruction leaves it makes it trap, not as it was before.
  bool traps_by_new_flags = false;

  constexpr Helper() = default;
  constexpr Helper(InsnFunction f, bool by_new_flags = false)
      : function(f), traps_by_new_flags(by_new_flags) {}
  explicit operator bool() const { return function != nullptr; }
  void operator()(Vcpu& cpu, const Insn& insn) const { function(cpu, insn); }
};

// What does any instruction that decodes; where there is nothing that could, raises #UD.
Helper find_helper(const Insn& insn);

// By subject; none when the instruction is not among them.
Helper find_near_helper(const Insn& insn);    // near_ops.cc
Helper find_string_helper(const Insn& insn);  // string_ops.cc
Helper find_system_helper(const Insn& insn);  // system.h: privileged and control-flow instructions
// fpu/fpu_helpers.h: x87/SSE/AVX instructions not carried over to the host (environment, state,
// transcendentals, gathers, approximations…).
Helper find_fpu_helper(const Insn& insn);
// legacy_ops.cc: unprivileged instructions that are rare in hot code (BCD adjusts, BOUND, XLAT, ENTER,
// PUSHA…, CMPXCHG16B and so on).
Helper find_legacy_helper(const Insn& insn);

// Delivers an exception, interrupt or NMI: pushes the frame and sets rip, CPL, flags (SDM vol. 3A 6.12
// to 6.15). Handles double and triple faults itself (a triple fault sets activity = shutdown). state.rip must
// be the address to push. Clears interrupt shadows; RF in the pushed image as the SDM says.
enum class EventKind : u8 {
  fault,               // exception from an instruction, including #DB traps and INT3/INTO (see software)
  external_interrupt,  // INTR
  nmi,
  software_interrupt,             // INT n: DPL checks apply
  software_exception,             // INT3, INTO: DPL checks apply
  privileged_software_exception,  // INT1
};
void deliver_event(Vcpu& cpu, EventKind kind, const GuestFault& event);

// --- operands.cc: generic access to decoded operands, for helpers.
u64 read_gpr(const CpuState& s, const Operand& op);         // zero-extended
void write_gpr(CpuState& s, const Operand& op, u64 value);  // 32-bit writes zero the upper half
// Offset within the segment, truncated to address size.
u64 effective_offset(const Vcpu& cpu, const Insn& insn);
// Segment base, limit and canonical checks (#GP/#SS) for an access of `size` bytes at `offset`.
Gva linear_address(const Vcpu& cpu, Seg segment, u64 offset, unsigned size, Access access);
Gva operand_address(const Vcpu& cpu, const Insn& insn, unsigned size, Access access);
// And #AC, in the order of Engine::mem_slow(): an operand that begins below the end of the canonical
// addresses is misaligned first.
Gva aligned_operand_address(const Vcpu& cpu, const Insn& insn, unsigned size, Access access);
u64 read_operand(Vcpu& cpu, const Insn& insn, unsigned index);  // gpr, mem (1, 2, 4, 8 bytes), imm, seg
void write_operand(Vcpu& cpu, const Insn& insn, unsigned index, u64 value);
// Stack with the current stack-address size; the pushed width in bytes. push_value probes before RSP changes.
void push_value(Vcpu& cpu, u64 value, unsigned size);
u64 pop_value(Vcpu& cpu, unsigned size);

}  // namespace deja
