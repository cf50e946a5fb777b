// Things of one kind that values refer to by name, so that another process of this program finds the same
// one. Each is a constant beside the code that it belongs to, and is known from the start of the program on.
#pragma once

#include <map>
#include <string_view>

#include "base/check.h"

namespace deja {

template <class T>
class Named {
 public:
  Named(const Named&) = delete;
  std::string_view name() const { return name_; }
  // nullptr: there is none.
  static const T* find(std::string_view name) {
    const auto found = all().find(name);
    return found == all().end() ? nullptr : found->second;
  }

 protected:
  // `name`: a literal.
  explicit Named(std::string_view name) : name_(name) {
    DEJA_CHECK(all().emplace(name, static_cast<const T*>(this)).second, "two of the name {}", name);
  }
  ~Named() = default;

 private:
  static std::map<std::string_view, const T*>& all() {
    static std::map<std::string_view, const T*> things;
    return things;
  }
  const std::string_view name_;
};

}  // namespace deja
