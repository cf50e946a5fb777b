// Errors that a user or a guest's file can cause travel as values. A message names the file, option or byte
// offset at fault and says what to do about it.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "base/check.h"

namespace deja {

struct [[nodiscard]] Error {
  std::string message;
};

template <class... Args>
Error make_error(fmt::format_string<Args...> f, Args&&... args) {
  return Error{fmt::format(f, std::forward<Args>(args)...)};
}

// Either a T or an Error.
template <class T>
class [[nodiscard]] Result {
 public:
  // Implicit, so that a function returns either as it is. NOLINTBEGIN(google-explicit-constructor)
  Result(T value) : v_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : v_(std::in_place_index<1>, std::move(error)) {}
  // NOLINTEND(google-explicit-constructor)
  bool ok() const { return v_.index() == 0; }
  explicit operator bool() const { return ok(); }
  T& value() & {
    DEJA_CHECK(ok(), "{}", std::get<1>(v_).message);
    return std::get<0>(v_);
  }
  const T& value() const& { return const_cast<Result*>(this)->value(); }
  T&& value() && { return std::move(value()); }
  T& operator*() & { return value(); }
  T&& operator*() && { return std::move(value()); }
  T* operator->() { return &value(); }
  const Error& error() const { return std::get<1>(v_); }

 private:
  std::variant<T, Error> v_;
};

// Success or an Error.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return !error_; }
  explicit operator bool() const { return ok(); }
  const Error& error() const { return *error_; }

 private:
  std::optional<Error> error_;
};

using Status = Result<void>;

}  // namespace deja

// Returns from the enclosing function when `expr` (a Result) holds an error.
#define DEJA_TRY(expr)                            \
  do {                                            \
    auto deja_status = (expr);                    \
    if (!deja_status) return deja_status.error(); \
  } while (0)

#define DEJA_CONCAT_(a, b) a##b
#define DEJA_CONCAT(a, b) DEJA_CONCAT_(a, b)
// `DEJA_ASSIGN(auto x, f())`: x = the value of f(), or return its error.
#define DEJA_ASSIGN(lhs, expr) DEJA_ASSIGN_(DEJA_CONCAT(deja_result_, __LINE__), lhs, expr)
#define DEJA_ASSIGN_(tmp, lhs, expr) \
  auto tmp = (expr);                 \
  if (!tmp) return tmp.error();      \
  lhs = std::move(tmp).value()
