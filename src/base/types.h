// Integer shorthands used everywhere, and the types that keep apart what must not be confused.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace deja {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i8 = std::int8_t;
using i16 = std::int16_t;
using i32 = std::int32_t;
using i64 = std::int64_t;
using u128 = unsigned __int128;
using i128 = __int128;

inline constexpr u64 kPageSize = 4096;
inline constexpr unsigned kPageShift = 12;

inline constexpr u64 operator""_KiB(unsigned long long n) { return n << 10; }
inline constexpr u64 operator""_MiB(unsigned long long n) { return n << 20; }
inline constexpr u64 operator""_GiB(unsigned long long n) { return n << 30; }

// A position in a run: the number of steps since power-on, over all vCPUs (docs/determinism.md, rule 1).
using Step = u64;
inline constexpr Step kNeverStep = ~u64{0};

// Guest-visible time since power-on in nanoseconds: a pure function of steps and warps.
using VtimeNs = u64;
inline constexpr VtimeNs kNeverNs = ~u64{0};

// Guest linear (virtual) address: what comes out of segmentation, before paging.
struct Gva {
  u64 value = 0;
  constexpr Gva() = default;
  constexpr explicit Gva(u64 v) : value(v) {}
  constexpr auto operator<=>(const Gva&) const = default;
  constexpr Gva operator+(u64 d) const { return Gva(value + d); }
  constexpr Gva page() const { return Gva(value & ~(kPageSize - 1)); }
  constexpr u64 offset() const { return value & (kPageSize - 1); }
};

// Guest physical address.
struct Gpa {
  u64 value = 0;
  constexpr Gpa() = default;
  constexpr explicit Gpa(u64 v) : value(v) {}
  constexpr auto operator<=>(const Gpa&) const = default;
  constexpr Gpa operator+(u64 d) const { return Gpa(value + d); }
  constexpr Gpa page() const { return Gpa(value & ~(kPageSize - 1)); }
  constexpr u64 offset() const { return value & (kPageSize - 1); }
  constexpr u64 frame() const { return value >> kPageShift; }
};

template <class T>
constexpr T sign_extend(T value, unsigned bits) {
  const unsigned shift = sizeof(T) * 8 - bits;
  return static_cast<T>(static_cast<std::make_signed_t<T>>(value << shift) >> shift);
}

}  // namespace deja
