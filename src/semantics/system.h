// What the files of the system instructions share. Each system_*.cc covers one subject and tells through a
// find_…_helper which mnemonics it covers.
#pragma once

#include "semantics/pure_ops.h"
#include "semantics/segments.h"
#include "semantics/vcpu.h"

namespace deja {

Helper find_transfer_helper(const Insn& insn);          // far JMP, CALL, RET
Helper find_interrupt_helper(const Insn& insn);         // INT n, INT1, INT3, INTO, IRET
Helper find_fast_call_helper(const Insn& insn);         // SYSCALL, SYSENTER and their returns
Helper find_control_register_helper(const Insn& insn);  // MOV CR/DR, LMSW, CLTS, XSETBV…
Helper find_table_helper(const Insn& insn);             // LGDT, LTR…, LAR, VERR…
Helper find_segment_helper(const Insn& insn);           // MOV/PUSH/POP Sreg, LDS…, FS/GS bases
Helper find_msr_helper(const Insn& insn);               // RDMSR, WRMSR, RDTSC, RDTSCP, RDPMC
Helper find_flags_helper(const Insn& insn);             // PUSHF, POPF, CLI, STI, CLAC…
Helper find_io_helper(const Insn& insn);                // IN, OUT
Helper find_misc_helper(const Insn& insn);              // CPUID, HLT, INVLPG…, and what is always #UD

// Bits of RFLAGS that exist in this CPU model, besides the one that is always set.
inline constexpr u64 kFlagsMask = flag::kStatus | flag::TF | flag::IF | flag::DF | flag::IOPL | flag::NT |
                                  flag::RF | flag::VM | flag::AC | flag::VIF | flag::VIP | flag::ID;

inline void require_cpl0(const CpuState& s) {
  if (s.cpl() != 0) throw fault_gp();
}

inline u32 low32(u64 value) { return static_cast<u32>(value); }

// #AC(0) when alignment checking is on and `address` is not a multiple of `size` (1, 2, 4 or 8).
void check_alignment(const Vcpu& cpu, Gva address, unsigned size);

// The last segment override prefix before the opcode, or `otherwise`.
Seg segment_override(const Insn& insn, Seg otherwise);

// Goes through the IDT once (SDM vol. 3A 6.12, 6.14): pushes the frame with `return_rip`, then sets CS, SS,
// RSP, RFLAGS and rip. Throws what the delivery itself raises, nothing changed.
void deliver_through_idt(Vcpu& cpu, EventKind kind, const GuestFault& event, u64 return_rip);

// What every debug exception does besides its bits in DR6: clears DR7.GD, and LBR and BTF of IA32_DEBUGCTL
// (SDM vol. 3B 17.2.4, 17.4.1).
void note_debug_exception(CpuState& s);

// Where a task switch comes from (SDM vol. 3A table 7-2).
enum class TaskSwitchSource : u8 { jump, call, iret, interrupt };
// Switches to the task whose TSS `selector` names; used by task gates, far transfers and IRET with NT set.
// Only outside IA-32e mode. `return_rip` is saved in the old task. With has_error, pushes `error` onto the
// new stack.
void switch_task(Vcpu& cpu, u16 selector, TaskSwitchSource source, u64 return_rip, bool has_error = false,
                 u32 error = 0);
// Outer selector of the current task (IRET with NT): the link field of the TSS.
u16 task_link(Vcpu& cpu);

// MOV to CR0: all checks and consequences, long mode entry and exit among them.
void write_cr0(Vcpu& cpu, u64 value);
// WRMSR to IA32_EFER.
void write_efer(Vcpu& cpu, u64 value);

}  // namespace deja
