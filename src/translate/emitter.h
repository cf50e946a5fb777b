// Host instructions that the translator adds around carried-over guest instructions. None of them changes
// EFLAGS unless its name says so. Code is written through one mapping and runs through another (`delta`
// apart).
#pragma once

#include <cstring>

#include "base/types.h"

namespace deja {

enum HostReg : u8 {
  HRAX,
  HRCX,
  HRDX,
  HRBX,
  HRSP,
  HRBP,
  HRSI,
  HRDI,
  HR8,
  HR9,
  HR10,
  HR11,
  HR12,
  HR13,
  HR14,
  HR15
};

class Emitter {
 public:
  Emitter(u8* write, u64 exec_delta) : p(write), delta_(exec_delta) {}

  u8* p;  // next byte to write

  u64 exec_address(const u8* at) const { return reinterpret_cast<u64>(at) + delta_; }
  u64 here() const { return exec_address(p); }

  // Whole words are stored, of which the rest is overwritten later: a byte stored through `p` may, for all
  // the compiler knows, change `p` itself.
  void b(u8 x) { *p++ = x; }
  void b(u8 x, u8 y) { put<u16>(static_cast<u16>(x | y << 8), 2); }
  void b(u8 x, u8 y, u8 z) { put<u32>(static_cast<u32>(x | y << 8 | z << 16), 3); }
  void b(u8 x, u8 y, u8 z, u8 w) { put<u32>(x | u32{y} << 8 | u32{z} << 16 | u32{w} << 24, 4); }
  void d(u32 x) { put<u32>(x, 4); }
  void q(u64 x) { put<u64>(x, 8); }

  // ModRM (+ disp32) for [rip + …] addressing `target`; `tail`: bytes of the instruction after the
  // displacement.
  void rip(unsigned reg, u64 target, unsigned tail = 0) {
    const u64 displacement = static_cast<u32>(target - (here() + 5 + tail));
    put<u64>(displacement << 8 | (reg & 7) << 3 | 5, 5);
  }
  void mov_load(unsigned reg, u64 address) {
    b(static_cast<u8>(0x48 | (reg >> 3) << 2), 0x8b), rip(reg, address);
  }
  void movzx8_load(unsigned reg, u64 address) {
    b(static_cast<u8>(0x48 | (reg >> 3) << 2), 0x0f, 0xb6), rip(reg, address);
  }
  void lea_rip(unsigned reg, u64 address) {
    b(static_cast<u8>(0x48 | (reg >> 3) << 2), 0x8d), rip(reg, address);
  }
  void mov_store(u64 address, unsigned reg) {
    b(static_cast<u8>(0x48 | (reg >> 3) << 2), 0x89), rip(reg, address);
  }
  void mov(unsigned to, unsigned from) {
    b(static_cast<u8>(0x48 | (from >> 3) << 2 | to >> 3), 0x89,
      static_cast<u8>(0xc0 | (from & 7) << 3 | (to & 7)));
  }
  void mov32(unsigned to, unsigned from) {
    if (to >= 8 || from >= 8) b(static_cast<u8>(0x40 | (from >> 3) << 2 | to >> 3));
    b(0x89, static_cast<u8>(0xc0 | (from & 7) << 3 | (to & 7)));
  }
  void mov_imm32(unsigned reg, u32 value) {  // zero-extends
    if (reg >= 8) b(0x41);
    b(static_cast<u8>(0xb8 | (reg & 7))), d(value);
  }
  void mov_imm(unsigned reg, i64 value) {
    if (value >= 0 && value <= 0xffffffffll) return mov_imm32(reg, static_cast<u32>(value));
    if (value == static_cast<i32>(value)) {
      b(static_cast<u8>(0x48 | reg >> 3), 0xc7, static_cast<u8>(0xc0 | (reg & 7))),
          d(static_cast<u32>(value));
      return;
    }
    b(static_cast<u8>(0x48 | reg >> 3), static_cast<u8>(0xb8 | (reg & 7))), q(static_cast<u64>(value));
  }
  // lea to, [base + index*scale + disp]; base or index may be -1. wide: 64-bit result, else 32-bit.
  void lea(unsigned to, int base, int index, unsigned scale, i32 disp, bool wide = true) {
    const u8 rex =
        static_cast<u8>(0x40 | (wide ? 8 : 0) | (to >> 3) << 2 | (index >= 8 ? 2 : 0) | (base >= 8 ? 1 : 0));
    if (rex != 0x40) b(rex);
    b(0x8d);
    const u8 reg = static_cast<u8>((to & 7) << 3);
    const u8 ss = static_cast<u8>(scale == 8 ? 0xc0 : scale == 4 ? 0x80 : scale == 2 ? 0x40 : 0);
    const u8 idx = static_cast<u8>(index < 0 ? 4 << 3 : (index & 7) << 3);
    if (base < 0) {
      b(static_cast<u8>(reg | 4), static_cast<u8>(ss | idx | 5)), d(static_cast<u32>(disp));
      return;
    }
    const bool sib = index >= 0 || (base & 7) == 4;
    const u8 rm = static_cast<u8>(sib ? 4 : base & 7);
    const bool none = disp == 0 && (base & 7) != 5;
    const bool byte = disp == static_cast<i8>(disp);
    b(static_cast<u8>((none ? 0 : byte ? 0x40 : 0x80) | reg | rm));
    if (sib) b(static_cast<u8>(ss | idx | (base & 7)));
    if (none) return;
    if (byte)
      b(static_cast<u8>(disp));
    else
      d(static_cast<u32>(disp));
  }
  void rorx32(unsigned to, unsigned from, u8 count) {
    b(0xc4), b(static_cast<u8>((to < 8 ? 0x80 : 0) | 0x40 | (from < 8 ? 0x20 : 0) | 3), 0x7b, 0xf0);
    b(static_cast<u8>(0xc0 | (to & 7) << 3 | (from & 7)), count);
  }
  // 64-bit shifts by the low six bits of `count`; pp 3 = shrx, 2 = sarx, 1 = shlx.
  void shift_x(u8 pp, unsigned to, unsigned from, unsigned count) {
    b(0xc4, static_cast<u8>((to < 8 ? 0x80 : 0) | 0x40 | (from < 8 ? 0x20 : 0) | 2));
    b(static_cast<u8>(0x80 | (~count & 15) << 3 | pp), 0xf7,
      static_cast<u8>(0xc0 | (to & 7) << 3 | (from & 7)));
  }
  void shrx(unsigned to, unsigned from, unsigned count) { shift_x(3, to, from, count); }
  void sarx(unsigned to, unsigned from, unsigned count) { shift_x(2, to, from, count); }
  // The same with 32 bits, zero-extended, by the low five bits.
  void shrx32(unsigned to, unsigned from, unsigned count) {
    b(0xc4, static_cast<u8>((to < 8 ? 0x80 : 0) | 0x40 | (from < 8 ? 0x20 : 0) | 2));
    b(static_cast<u8>((~count & 15) << 3 | 3), 0xf7, static_cast<u8>(0xc0 | (to & 7) << 3 | (from & 7)));
  }
  void movzx16(unsigned to, unsigned from) {
    if (to >= 8 || from >= 8) b(static_cast<u8>(0x40 | (to >> 3) << 2 | from >> 3));
    b(0x0f, 0xb7, static_cast<u8>(0xc0 | (to & 7) << 3 | (from & 7)));
  }
  // mov to, gs:[index*8 + disp]
  void mov_load_gs(unsigned to, unsigned index, u32 disp) {
    b(0x65, static_cast<u8>(0x48 | (to >> 3) << 2 | (index >> 3) << 1), 0x8b);
    b(static_cast<u8>(0x04 | (to & 7) << 3), static_cast<u8>(0xc5 | (index & 7) << 3)), d(disp);
  }
  void jmp_gs(unsigned index, u32 disp) {  // jmp gs:[index*8 + disp]
    b(0x65);
    if (index >= 8) b(0x42);
    b(0xff), b(0x24, static_cast<u8>(0xc5 | (index & 7) << 3)), d(disp);
  }
  void jmp_gs(u32 disp) { b(0x65, 0xff, 0x24, 0x25), d(disp); }  // jmp gs:[disp]
  void jmp(u64 target) { b(0xe9), d(static_cast<u32>(target - (here() + 4))); }
  void jcc(unsigned condition, u64 target) {
    b(0x0f, static_cast<u8>(0x80 | condition)), d(static_cast<u32>(target - (here() + 4)));
  }
  void jmp_mem(u64 address) { b(0xff), rip(4, address); }
  // Short forward jumps, patched by land().
  u8* jrcxz() { return b(0xe3, 0), p - 1; }
  void land(u8* at) { *at = static_cast<u8>(p - at - 1); }

 private:
  template <class Word>
  void put(Word x, unsigned bytes) {
    std::memcpy(p, &x, sizeof x);
    p += bytes;
  }

  u64 delta_;
};

}  // namespace deja
