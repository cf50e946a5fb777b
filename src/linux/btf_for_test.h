// Descriptions of types, made by tests.
#pragma once

#include <string>
#include <vector>

#include "base/types.h"

namespace deja::test {

// Puts together what `pahole -J` would make of a few structures.
class BtfMaker {
 public:
  u32 name(const std::string& text) {
    const u32 at = static_cast<u32>(strings_.size());
    strings_ += text + '\0';
    return at;
  }
  void type(u32 name, u32 kind, u32 count, u32 size_or_type, const std::vector<u32>& details,
            bool bits = false) {
    for (const u32 word : {name, u32{bits} << 31 | kind << 24 | count, size_or_type}) put(types_, word);
    for (const u32 word : details) put(types_, word);
  }
  std::vector<u8> bytes() const {
    std::string out;
    const u32 types = static_cast<u32>(types_.size()), strings = static_cast<u32>(strings_.size());
    for (const u32 word : {u32{0x1eb9f}, u32{24}, u32{0}, types, types, strings}) put(out, word);
    out += types_ + strings_;
    return {out.begin(), out.end()};
  }

 private:
  static void put(std::string& out, u32 word) { out.append(reinterpret_cast<const char*>(&word), 4); }
  std::string types_, strings_ = std::string(1, '\0');
};

}  // namespace deja::test
