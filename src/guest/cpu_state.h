// The architectural state of one virtual CPU (Intel SDM vol. 1 chapter 3, vol. 3A chapter 2), and nothing
// else: all of it is digested and checkpointed. Caches (TLBs, translated code) live in execute/.
//
// While translated code runs, most general registers, the status flags, and all x87/SSE/AVX registers live in
// host registers; the fields here are then stale until execute/ writes them back. C++ code that is handed a
// CpuState by execute/ always sees general registers, RIP and RFLAGS current. For x87/SSE/AVX see FpuState.
#pragma once

#include <cstring>

#include "base/types.h"

namespace deja {

// General registers in encoding order.
enum Gpr : u8 { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
// Segment registers in encoding order (MOV Sreg).
enum Seg : u8 { ES, CS, SS, DS, FS, GS };

namespace flag {
inline constexpr u64 CF = 1 << 0, PF = 1 << 2, AF = 1 << 4, ZF = 1 << 6, SF = 1 << 7, TF = 1 << 8,
                     IF = 1 << 9, DF = 1 << 10, OF = 1 << 11, IOPL = 3 << 12, NT = 1 << 14, RF = 1 << 16,
                     VM = 1 << 17, AC = 1 << 18, VIF = 1 << 19, VIP = 1 << 20, ID = 1 << 21;
inline constexpr u64 kStatus = CF | PF | AF | ZF | SF | OF;
inline constexpr u64 kReserved1 = 1 << 1;  // always reads as one
}  // namespace flag

namespace cr0bit {
inline constexpr u64 PE = 1 << 0, MP = 1 << 1, EM = 1 << 2, TS = 1 << 3, ET = 1 << 4, NE = 1 << 5,
                     WP = 1 << 16, AM = 1 << 18, NW = 1 << 29, CD = 1 << 30, PG = u64{1} << 31;
}
namespace cr4bit {
inline constexpr u64 VME = 1 << 0, PVI = 1 << 1, TSD = 1 << 2, DE = 1 << 3, PSE = 1 << 4, PAE = 1 << 5,
                     MCE = 1 << 6, PGE = 1 << 7, PCE = 1 << 8, OSFXSR = 1 << 9, OSXMMEXCPT = 1 << 10,
                     UMIP = 1 << 11, FSGSBASE = 1 << 16, PCIDE = 1 << 17, OSXSAVE = 1 << 18, SMEP = 1 << 20,
                     SMAP = 1 << 21;
}
namespace eferbit {
inline constexpr u64 SCE = 1 << 0, LME = 1 << 8, LMA = 1 << 10, NXE = 1 << 11;
}

// A segment register with its hidden part.
struct SegmentRegister {
  u64 base = 0;
  u32 limit = 0;  // in bytes, granularity already applied: the highest valid offset
  u16 selector = 0;
  // Descriptor bits 40..55 without the limit field: type[3:0], S[4], DPL[6:5], P[7], AVL[12], L[13], D/B[14],
  // G[15]; bits 8..11 zero. An unusable (null) segment has P = 0.
  u16 attr = 0;

  unsigned type() const { return attr & 15; }
  bool system() const { return !(attr & 0x10); }
  unsigned dpl() const { return (attr >> 5) & 3; }
  bool present() const { return attr & 0x80; }
  bool code() const { return (attr & 0x18) == 0x18; }
  bool conforming_code() const { return (attr & 0x1c) == 0x1c; }
  bool writable_data() const { return (attr & 0x1a) == 0x12; }
  bool readable() const { return (attr & 0x18) == 0x10 || (attr & 0x1a) == 0x1a; }
  bool expand_down() const { return (attr & 0x1c) == 0x14; }
  bool long_mode() const { return attr & 0x2000; }  // L, code segments only
  bool big() const { return attr & 0x4000; }        // D/B
};

struct DescriptorTable {
  u64 base = 0;
  u16 limit = 0;
};

// x87, MMX, SSE and AVX state in canonical form: FIP, FDP, FOP are always zero (docs/determinism.md).
struct FpuState {
  // x87 data registers in *stack* order ST0..ST7, 80 bits in the low 10 bytes, upper 6 bytes zero.
  alignas(16) u8 st[8][16] = {};
  u16 fcw = 0x40;  // RESET value (SDM vol. 3A table 10-1)
  u16 fsw = 0;
  u8 ftw = 0;  // abridged tag word of FXSAVE: bit i set = physical register i not empty
  u32 mxcsr = 0x1f80;
  // Register i: XMM in bytes 0..15, high half of YMM in bytes 16..31.
  alignas(64) u8 ymm[16][32] = {};
};

struct Msrs {
  u64 apic_base = 0;  // bits as in IA32_APIC_BASE; kept here, the local APIC reads it
  u64 pat = 0x0007040600070406;
  u64 star = 0, lstar = 0, cstar = 0, fmask = 0, kernel_gs_base = 0;
  u64 sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0;
  u64 tsc_aux = 0;
  u64 tsc_adjust = 0;  // TSC = steps-derived counter + tsc_adjust (IA32_TSC_ADJUST semantics)
  u64 misc_enable = 1;
  u64 spec_ctrl = 0;
  u64 mtrr_def_type = 0;
  u64 mtrr_fixed[11] = {};
  u64 mtrr_phys[16] = {};  // base/mask pairs 200h..20Fh
  u64 debugctl = 0;
  u64 feature_control = 1;  // IA32_FEATURE_CONTROL, locked
  u64 mcg_status = 0, mcg_ctl = 0;
  u64 mc_bank[4][4] = {};  // CTL, STATUS, ADDR, MISC
  u64 microcode_rev = 0;
};

// Why a vCPU is not executing instructions.
enum class Activity : u8 { running = 0, halted = 1, wait_for_sipi = 2, shutdown = 3 };

struct CpuState {
  u64 gpr[16] = {};
  u64 rip = 0;
  u64 rflags = flag::kReserved1;
  SegmentRegister seg[6];
  SegmentRegister ldtr, tr;
  DescriptorTable gdtr, idtr;
  u64 cr0 = 0, cr2 = 0, cr3 = 0, cr4 = 0;
  u64 efer = 0, xcr0 = 1;
  u64 pdpte[4] = {};  // PAE paging: registers loaded at MOV CR3 (SDM vol. 3A 4.4.1)
  u64 dr[4] = {};
  u64 dr6 = 0xffff0ff0, dr7 = 0x400;
  Msrs msr;
  FpuState fpu;

  Activity activity = Activity::running;
  bool sti_shadow = false;     // interrupts blocked until after the next instruction
  bool mov_ss_shadow = false;  // the same for MOV SS / POP SS, which also blocks #DB and NMI
  bool nmi_blocked = false;    // between NMI delivery and IRET
  bool nmi_pending = false;
  u64 pending_dbg = 0;  // DR6 bits of debug exceptions to raise before the next instruction
  u32 index = 0;        // which vCPU this is
  u32 pause_run = 0;    // PAUSEs since this vCPU's quantum began; many of them end it (SMP guests)

  // Current privilege level: SS.DPL in protected mode (SDM vol. 3A 5.5), 0 in real mode, 3 in v8086 mode.
  unsigned cpl() const {
    if (!(cr0 & cr0bit::PE)) return 0;
    if (rflags & flag::VM) return 3;
    return seg[SS].dpl();
  }
  bool protected_mode() const { return cr0 & cr0bit::PE; }
  bool long_mode_active() const { return efer & eferbit::LMA; }
  bool v8086() const { return rflags & flag::VM; }
  // 64-bit mode as opposed to compatibility mode.
  bool mode64() const { return long_mode_active() && seg[CS].long_mode(); }
  // Default operand/address size of the current code segment in bytes.
  unsigned code_size() const { return mode64() ? 8 : seg[CS].big() ? 4 : 2; }
};

}  // namespace deja
