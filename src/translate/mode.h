// The state bits that translated code depends on. Blocks are keyed by physical address and this.
#pragma once

#include "decode/insn.h"
#include "guest/cpu_state.h"
#include "translate/exec_context.h"

namespace deja {

struct BlockMode {
  u32 bits = 0;
  enum : u32 {
    kUser = 1 << 0,        // CPL 3
    kCode32 = 1 << 1,      // compatibility or protected mode, CS.D = 1
    kCode64 = 1 << 2,      // 64-bit mode; neither: 16-bit
    kSmapClosed = 1 << 3,  // CPL < 3, CR4.SMAP, AC = 0
    kFlatCode = 1 << 4,    // CS base 0, limit 4 GiB (or 64-bit mode)
    kFlatData = 1 << 5,    // ES, DS, SS likewise, writable, SS.B = 1 (or 64-bit mode)
    kFlatFsGs = 1 << 6,    // FS, GS: limit 4 GiB, any base (or 64-bit mode)
    kStackBig = 1 << 7,    // SS.B
    kAlignCheck = 1 << 8,  // CR0.AM, RFLAGS.AC, CPL 3
    kNoX87 = 1 << 9,       // CR0.EM or TS: x87 and MMX raise #NM (MMX, EM: #UD)
    kWaitNm = 1 << 10,     // CR0.MP and TS: FWAIT raises #NM
    kEm = 1 << 11,         // CR0.EM: SSE and MMX raise #UD
    kTs = 1 << 12,         // CR0.TS: SSE and AVX raise #NM
    kSse = 1 << 13,        // CR4.OSFXSR
    kAvx = 1 << 14,        // CR4.OSXSAVE, XCR0 has SSE and AVX, protected mode
    kProtected = 1 << 15,  // CR0.PE and not v8086
    kXmUd = 1 << 16,       // CR4.OSXMMEXCPT = 0
    kSlowData = 1 << 17,   // data breakpoints are armed: every access goes through C++
    kPlain = 1 << 18,      // each access is checked by itself (plan.h)
    kObserved = 1 << 23,   // of a page with debugger's breakpoints: cut there, and reached through C++ only
    // The top byte is the most instructions the block may have; 0: no limit but the translator's own.
    kLimitShift = 24,
  };
  bool has(u32 bit) const { return bits & bit; }
  unsigned limit() const { return bits >> kLimitShift; }
  CodeSize code_size() const {
    return has(kCode64) ? CodeSize::bits64 : has(kCode32) ? CodeSize::bits32 : CodeSize::bits16;
  }
  View view() const { return has(kUser) ? View::user : has(kSmapClosed) ? View::kernel_smap : View::kernel; }
};

// The bits that follow from privilege and RFLAGS.AC.
[[gnu::always_inline]] inline u32 privilege_mode(const CpuState& s) {
  const bool ac = s.rflags & flag::AC;
  if (s.cpl() == 3) return BlockMode::kUser | (ac && (s.cr0 & cr0bit::AM) ? u32{BlockMode::kAlignCheck} : 0);
  return (s.cr4 & cr4bit::SMAP) && !ac ? u32{BlockMode::kSmapClosed} : 0;
}

// Those that say that segments have no effect.
inline constexpr u32 kMode64 = BlockMode::kCode64 | BlockMode::kFlatCode | BlockMode::kFlatData |
                               BlockMode::kFlatFsGs | BlockMode::kStackBig;

// Those that follow from control and debug registers.
inline u32 system_mode(const CpuState& s) {
  u32 b = 0;
  if (s.protected_mode() && !s.v8086()) b |= BlockMode::kProtected;
  if (s.cr0 & (cr0bit::EM | cr0bit::TS)) b |= BlockMode::kNoX87;
  if ((s.cr0 & (cr0bit::MP | cr0bit::TS)) == (cr0bit::MP | cr0bit::TS)) b |= BlockMode::kWaitNm;
  if (s.cr0 & cr0bit::EM) b |= BlockMode::kEm;
  if (s.cr0 & cr0bit::TS) b |= BlockMode::kTs;
  if (s.cr4 & cr4bit::OSFXSR) b |= BlockMode::kSse;
  if ((s.cr4 & cr4bit::OSXSAVE) && (s.xcr0 & 6) == 6 && (b & BlockMode::kProtected)) b |= BlockMode::kAvx;
  if (!(s.cr4 & cr4bit::OSXMMEXCPT)) b |= BlockMode::kXmUd;
  // DR7 L0/G0..L3/G3 with R/W = 01b or 11b (data) or 10b (I/O, checked elsewhere).
  if (s.dr7 & 0xff)
    for (unsigned i = 0; i < 4; ++i)
      if ((s.dr7 >> (2 * i) & 3) && (s.dr7 >> (16 + 4 * i) & 1)) b |= BlockMode::kSlowData;
  return b;
}

// Those that follow from the segment registers outside 64-bit mode.
inline u32 segment_mode(const CpuState& s) {
  u32 b = 0;
  const auto flat = [](const SegmentRegister& r) {
    return r.base == 0 && r.limit == 0xffffffff && r.present();
  };
  const bool real = !s.protected_mode() || s.v8086();
  if (s.seg[CS].big()) b |= BlockMode::kCode32;
  if (s.seg[SS].big()) b |= BlockMode::kStackBig;
  if (real || !s.seg[CS].big()) return b;
  if (flat(s.seg[CS])) b |= BlockMode::kFlatCode;
  bool data = s.seg[SS].big();
  for (const Seg r : {ES, SS, DS})
    data = data && flat(s.seg[r]) && s.seg[r].writable_data() && !s.seg[r].expand_down();
  if (data) b |= BlockMode::kFlatData;
  bool fsgs = true;
  for (const Seg r : {FS, GS})
    fsgs = fsgs && s.seg[r].present() && s.seg[r].limit == 0xffffffff && s.seg[r].writable_data() &&
           !s.seg[r].expand_down();
  if (fsgs) b |= BlockMode::kFlatFsGs;
  return b;
}

inline BlockMode mode_of(const CpuState& s) {
  return BlockMode{privilege_mode(s) | system_mode(s) | (s.mode64() ? kMode64 : segment_mode(s))};
}

}  // namespace deja
