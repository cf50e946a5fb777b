// Between the host's x87/SSE/AVX registers, the canonical FpuState, and the formats in which instructions
// store it (SDM vol. 1 8.1, 10.5, 13.4). The last instruction and data pointers (FIP, FDP, FOP) never enter
// FpuState: the host's would be code-cache addresses, and Intel and AMD update them under different
// conditions.
#pragma once

#include "base/types.h"
#include "guest/cpu_state.h"

namespace deja {

// FPU status word (SDM vol. 1 8.1.3).
namespace fsw {
inline constexpr u16 IE = 1 << 0, DE = 1 << 1, ZE = 1 << 2, OE = 1 << 3, UE = 1 << 4, PE = 1 << 5,
                     SF = 1 << 6, ES = 1 << 7, C0 = 1 << 8, C1 = 1 << 9, C2 = 1 << 10, C3 = 1 << 14,
                     B = 1 << 15;
inline constexpr u16 kExceptions = IE | DE | ZE | OE | UE | PE;
inline constexpr unsigned kTopShift = 11;
}  // namespace fsw

// Bits of FCW that can be written; bit 6 always reads as one, the other reserved ones as zero.
inline constexpr u16 kFcwWritable = 0x1f3f;
inline constexpr u16 kFcwInit = 0x037f;
// The MXCSR_MASK of the CPU model: all bits up to FZ. AMD's misaligned-access bit 17 is not offered.
inline constexpr u32 kMxcsrMask = 0xffff;
inline constexpr u32 kMxcsrInit = 0x1f80;

// x87, MXCSR and vector registers of the host. Do not use them between C++ code that has values in vector
// registers; the callers are the entry and exit of translated code and helpers.
void host_fpu_save(FpuState& state);
void host_fpu_load(const FpuState& state);
// The same for x87 and MXCSR alone; the host's vector registers and state.ymm stay as they are.
void host_x87_save(FpuState& state);
void host_x87_load(const FpuState& state);

inline unsigned x87_top(const FpuState& f) { return (f.fsw >> fsw::kTopShift) & 7; }
// Changes TOP; the physical registers keep their contents, so the ST(i) rotate.
void x87_set_top(FpuState& f, unsigned top);
// Brings FCW into the form it reads back as, and ES and B into agreement with the unmasked exceptions, as the
// hardware does whenever it loads an environment.
void x87_normalize(FpuState& f);
// FNINIT: the data registers keep their contents.
void x87_init(FpuState& f);
// The 16-bit tag word, derived from the contents (SDM vol. 1 8.1.7), and back.
u16 x87_full_tag_word(const FpuState& f);
u8 x87_abridged_tag_word(u16 full);

// True when any of the host's exceptions would be raised by the next waiting x87 instruction.
inline bool x87_exception_pending(const FpuState& f) { return f.fsw & ~f.fcw & fsw::kExceptions; }

// The x87 part of an FXSAVE image, bytes 0..23 and 32..159 (SDM vol. 1 10.5.1); MXCSR at 24..31 apart.
void x87_to_fxsave(const FpuState& f, u8* image);
void x87_from_fxsave(FpuState& f, const u8* image);

}  // namespace deja
