#include "semantics/fpu/fpu_state.h"

#include <cstring>

namespace deja {
namespace {

struct alignas(64) FxsaveImage {
  u8 bytes[512];
};

const bool host_has_avx = __builtin_cpu_supports("avx");

// Nothing in these functions may use a vector register on its own account, so copies are spelled out in
// words: memcpy() of libc, and the compiler's own expansion, would.
#define DEJA_GENERAL_REGS __attribute__((noinline, target("general-regs-only")))

DEJA_GENERAL_REGS void copy_words(void* to, const void* from, unsigned bytes) {
  auto* d = static_cast<volatile u64*>(to);
  const auto* s = static_cast<const u64*>(from);
  for (unsigned i = 0; i < bytes / 8; ++i) d[i] = s[i];
}

DEJA_GENERAL_REGS void take_x87(FpuState& state, const FxsaveImage& image) {
  x87_from_fxsave(state, image.bytes);
  u32 mxcsr;
  __builtin_memcpy(&mxcsr, image.bytes + 24, 4);
  state.mxcsr = mxcsr & kMxcsrMask;
}

DEJA_GENERAL_REGS void put_x87(const FpuState& state, FxsaveImage& image) {
  x87_to_fxsave(state, image.bytes);
  const u32 mxcsr = state.mxcsr & kMxcsrMask;
  __builtin_memcpy(image.bytes + 24, &mxcsr, 4);
}

#define DEJA_EACH_YMM(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

}  // namespace

DEJA_GENERAL_REGS void host_fpu_save(FpuState& state) {
  FxsaveImage image;
  asm volatile("fxsave64 %0" : "=m"(image));
  if (host_has_avx) {
#define DEJA_STORE(i) asm volatile("vmovups %%ymm" #i ", %0" : "=m"(state.ymm[i]));
    DEJA_EACH_YMM(DEJA_STORE)
#undef DEJA_STORE
  } else {
    for (unsigned i = 0; i < 16; ++i) copy_words(state.ymm[i], image.bytes + 160 + 16 * i, 16);
  }
  take_x87(state, image);
}

DEJA_GENERAL_REGS void host_fpu_load(const FpuState& state) {
  FxsaveImage image;
  put_x87(state, image);
  for (unsigned i = 0; i < 16; ++i) copy_words(image.bytes + 160 + 16 * i, state.ymm[i], 16);
  asm volatile("fxrstor64 %0" : : "m"(image));
  if (host_has_avx) {
#define DEJA_LOAD(i) asm volatile("vmovups %0, %%ymm" #i : : "m"(state.ymm[i]));
    DEJA_EACH_YMM(DEJA_LOAD)
#undef DEJA_LOAD
  }
}

DEJA_GENERAL_REGS void host_x87_save(FpuState& state) {
  FxsaveImage image;
  asm volatile("fxsave64 %0" : "=m"(image));
  take_x87(state, image);
}

DEJA_GENERAL_REGS void host_x87_load(const FpuState& state) {
  FxsaveImage image;
  // FXRSTOR also loads the XMM registers; give them back what they hold. It leaves the upper YMM halves
  // alone.
  asm volatile("fxsave64 %0" : "=m"(image));
  put_x87(state, image);
  asm volatile("fxrstor64 %0" : : "m"(image));
}

DEJA_GENERAL_REGS void x87_set_top(FpuState& f, unsigned top) {
  const unsigned shift = (top - x87_top(f)) & 7;
  if (shift) {
    u8 old[8][16];
    copy_words(old, f.st, sizeof old);
    for (unsigned i = 0; i < 8; ++i) copy_words(f.st[i], old[(i + shift) & 7], 16);
  }
  f.fsw = static_cast<u16>((f.fsw & ~(7 << fsw::kTopShift)) | (top & 7) << fsw::kTopShift);
}

DEJA_GENERAL_REGS void x87_normalize(FpuState& f) {
  f.fcw = (f.fcw & kFcwWritable) | 0x40;
  f.fsw &= static_cast<u16>(~(fsw::ES | fsw::B));
  if (x87_exception_pending(f)) f.fsw |= fsw::ES | fsw::B;
}

void x87_init(FpuState& f) {
  x87_set_top(f, 0);
  f.fcw = kFcwInit;
  f.fsw = 0;
  f.ftw = 0;
}

u16 x87_full_tag_word(const FpuState& f) {
  const unsigned top = x87_top(f);
  unsigned tags = 0;
  for (unsigned phys = 0; phys < 8; ++phys) {
    unsigned tag = 3;
    if (f.ftw & (1 << phys)) {
      const u8* r = f.st[(phys - top) & 7];
      u64 significand;
      u16 exponent;
      std::memcpy(&significand, r, 8);
      std::memcpy(&exponent, r + 8, 2);
      exponent &= 0x7fff;
      if (exponent == 0)
        tag = significand == 0 ? 1 : 2;
      else
        tag = exponent != 0x7fff && significand >> 63 ? 0 : 2;
    }
    tags |= tag << (2 * phys);
  }
  return static_cast<u16>(tags);
}

u8 x87_abridged_tag_word(u16 full) {
  unsigned abridged = 0;
  for (unsigned i = 0; i < 8; ++i)
    if (((full >> (2 * i)) & 3) != 3) abridged |= 1u << i;
  return static_cast<u8>(abridged);
}

DEJA_GENERAL_REGS void x87_to_fxsave(const FpuState& f, u8* image) {
  __builtin_memcpy(image, &f.fcw, 2);
  __builtin_memcpy(image + 2, &f.fsw, 2);
  image[4] = f.ftw;
  image[5] = 0;
  const u64 zero = 0;
  __builtin_memcpy(image + 6, &zero, 2);   // FOP
  __builtin_memcpy(image + 8, &zero, 8);   // FIP
  __builtin_memcpy(image + 16, &zero, 8);  // FDP
  for (unsigned i = 0; i < 8; ++i) copy_words(image + 32 + 16 * i, f.st[i], 16);
}

DEJA_GENERAL_REGS void x87_from_fxsave(FpuState& f, const u8* image) {
  __builtin_memcpy(&f.fcw, image, 2);
  __builtin_memcpy(&f.fsw, image + 2, 2);
  f.ftw = image[4];
  for (unsigned i = 0; i < 8; ++i) {
    copy_words(f.st[i], image + 32 + 16 * i, 16);
    const u64 zero = 0;
    __builtin_memcpy(f.st[i] + 10, &zero, 6);
  }
  x87_normalize(f);
}

}  // namespace deja
