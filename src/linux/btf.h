// BTF, the description of its types that a Linux kernel carries (Documentation/bpf/btf.rst): where the
// members of its structures are.
#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "base/types.h"

namespace deja {

class Btf {
 public:
  // `bytes` from the header on; what lies behind its end does not matter. An error: this is not BTF. Any
  // bytes are safe.
  static Result<Btf> parse(std::span<const u8> bytes);

  // Where a member stands in a structure, in bytes from its start; also one of an anonymous structure or
  // union in it. An error: there is no such member, or it is a bit field.
  Result<u32> offset_of(std::string_view structure, std::string_view member) const;
  // In bytes. An error: there is no such structure.
  Result<u32> size_of(std::string_view structure) const;

 private:
  struct Type {
    u32 name = 0, info = 0, size_or_type = 0;
    std::size_t details = 0;  // where what follows its header begins in types_
    u32 kind() const { return info >> 24 & 0x1f; }
    u32 count() const { return info & 0xffff; }
    bool bit_sizes() const { return info >> 31; }
  };
  std::string_view name_at(u32 offset) const;
  u32 word(std::size_t at) const;
  bool is_structure(u32 type) const;
  // Takes the members that it looks at from `budget`.
  std::optional<u32> bit_offset(const Type& structure, std::string_view member, unsigned depth,
                                std::size_t* budget) const;

  std::span<const u8> types_, strings_;
  std::vector<Type> list_;  // number 0 is void
};

}  // namespace deja
