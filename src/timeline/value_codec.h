// Values as bytes, for work that is done elsewhere: base/archive.h with a version in front, and with what
// archives of machine state do without. A type has one function for both directions:
//
//   template <class A>
//   void serialize(A& a, Point& p) { a.field(p.x), text_field(a, p.name), list_field(a, p.neighbours); }
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/archive.h"
#include "base/result.h"

namespace deja {

using ValueBytes = std::vector<u8>;

template <class A>
void text_field(A& a, std::string& text) {
  std::vector<u8> bytes(text.begin(), text.end());
  a.vector(bytes);
  if constexpr (!A::is_writer) text.assign(bytes.begin(), bytes.end());
}

template <class A, class T>
void optional_field(A& a, std::optional<T>& x) {
  bool there = x.has_value();
  a.field(there);
  if (!there) return;
  if constexpr (!A::is_writer) x.emplace();
  a.field(*x);
}

template <class A, class T>
void list_field(A& a, std::vector<T>& xs) {
  u32 n = static_cast<u32>(xs.size());
  a.field(n);
  if constexpr (A::is_writer) {
    for (T& x : xs) serialize(a, x);
  } else {
    xs.clear();
    // The number may be damage; memory is taken for what is there.
    for (u32 i = 0; i < n && a.ok(); ++i) serialize(a, xs.emplace_back());
  }
}

template <class T>
ValueBytes to_bytes(u32 version, const T& value) {
  StateWriter writer;
  writer.field(version);
  serialize(writer, const_cast<T&>(value));  // a writer only reads
  return writer.take();
}

// `what`: for the message.
template <class T>
Result<T> from_bytes(u32 version, std::string_view what, const ValueBytes& bytes) {
  StateReader reader(bytes);
  u32 found = 0;
  T value;
  reader.field(found);
  if (reader.ok() && found != version)
    return make_error("{}: of version {}, and this program knows {}", what, found, version);
  serialize(reader, value);
  if (!reader.ok() || !reader.at_end())
    return make_error("{}: damaged, {} bytes of which {} were understood", what, bytes.size(),
                      reader.position());
  return value;
}

}  // namespace deja
