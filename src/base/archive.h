// Byte-exact saving and restoring of machine state: little-endian, no padding, no host pointers.
// One function `template <class A> void serialize(A& a, State& s)` serves both directions: `a.field(x)`.
// The same bytes feed the machine digest, so everything in them must be a pure function of guest history.
#pragma once

#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/types.h"

namespace deja {

class StateWriter {
 public:
  static constexpr bool is_writer = true;

  void bytes(const void* data, std::size_t size) {
    const auto* p = static_cast<const u8*>(data);
    out_.insert(out_.end(), p, p + size);
  }
  template <class T>
  requires(std::is_integral_v<T> || std::is_enum_v<T>) void field(const T& x) { bytes(&x, sizeof x); }
  template <class T, std::size_t N>
  void field(const T (&xs)[N]) {
    for (const auto& x : xs) field(x);
  }
  template <class T, std::size_t N>
  void field(const std::array<T, N>& xs) {
    for (const auto& x : xs) field(x);
  }
  // Length (u32) and elements; T is an integer type.
  template <class T>
  void vector(const std::vector<T>& xs) {
    field(static_cast<u32>(xs.size()));
    for (const auto& x : xs) field(x);
  }
  const std::vector<u8>& data() const { return out_; }
  std::vector<u8> take() { return std::move(out_); }

 private:
  std::vector<u8> out_;
};

// Reads what StateWriter wrote. Reading past the end sets !ok() and yields zeros: state files are hostile
// input.
class StateReader {
 public:
  static constexpr bool is_writer = false;

  explicit StateReader(std::string_view data) : data_(data) {}
  explicit StateReader(const std::vector<u8>& data)
      : data_(reinterpret_cast<const char*>(data.data()), data.size()) {}

  void bytes(void* out, std::size_t size) {
    if (size > data_.size() - pos_) {
      ok_ = false;
      pos_ = data_.size();
      std::memset(out, 0, size);
      return;
    }
    std::memcpy(out, data_.data() + pos_, size);
    pos_ += size;
  }
  template <class T>
  requires(std::is_integral_v<T> || std::is_enum_v<T>) void field(T& x) {
    if constexpr (std::is_same_v<T, bool>) {
      u8 b = 0;
      bytes(&b, 1);
      x = b != 0;
    } else {
      bytes(&x, sizeof x);
    }
  }
  template <class T, std::size_t N>
  void field(T (&xs)[N]) {
    for (auto& x : xs) field(x);
  }
  template <class T, std::size_t N>
  void field(std::array<T, N>& xs) {
    for (auto& x : xs) field(x);
  }
  // At most `limit` elements, else !ok().
  template <class T>
  void vector(std::vector<T>& xs, std::size_t limit = 1 << 20) {
    u32 n = 0;
    field(n);
    if (n > limit || n > data_.size() - pos_) {
      ok_ = false;
      n = 0;
    }
    xs.assign(n, T{});
    for (auto& x : xs) field(x);
  }
  bool ok() const { return ok_; }
  bool at_end() const { return pos_ == data_.size(); }
  std::size_t position() const { return pos_; }

 private:
  std::string_view data_;
  std::size_t pos_ = 0;
  bool ok_ = true;
};

}  // namespace deja
