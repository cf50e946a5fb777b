#include "linux/btf.h"

#include <cstring>

namespace deja {
namespace {

constexpr u32 kMagicAndVersion = 0x1eb9f;
constexpr u32 kKindInt = 1, kKindArray = 3, kKindStruct = 4, kKindUnion = 5, kKindEnum = 6,
              kKindFuncProto = 13, kKindVar = 14, kKindDatasec = 15, kKindDeclTag = 17, kKindEnum64 = 19,
              kMostKinds = 20;
constexpr unsigned kDeepest = 16;  // anonymous structures in each other

// How many bytes follow the header of a type, for each of its `count` and in all.
u64 details_size(u32 kind, u64 count) {
  switch (kind) {
    case kKindInt:
    case kKindVar:
    case kKindDeclTag:
      return 4;
    case kKindArray:
      return 12;
    case kKindStruct:
    case kKindUnion:
    case kKindDatasec:
    case kKindEnum64:
      return 12 * count;
    case kKindEnum:
    case kKindFuncProto:
      return 8 * count;
    default:
      return 0;
  }
}

}  // namespace

u32 Btf::word(std::size_t at) const {
  u32 value = 0;
  DEJA_CHECK(at + sizeof value <= types_.size(), "byte {} of {}", at, types_.size());
  std::memcpy(&value, types_.data() + at, sizeof value);
  return value;
}

Result<Btf> Btf::parse(std::span<const u8> bytes) {
  const Error bad =
      make_error("the kernel's description of its types (BTF) is damaged or of an unknown version");
  u32 head[6];  // magic, version and flags; size of the header; types: offset, size; strings: offset, size
  if (bytes.size() < sizeof head) return bad;
  std::memcpy(head, bytes.data(), sizeof head);
  if ((head[0] & 0xffffff) != kMagicAndVersion) return bad;
  const auto section = [&](u64 offset, u64 size) -> std::optional<std::span<const u8>> {
    offset += head[1];
    if (offset > bytes.size() || size > bytes.size() - offset) return std::nullopt;
    return bytes.subspan(offset, size);
  };
  const auto types = section(head[2], head[3]), strings = section(head[4], head[5]);
  if (!types || !strings || strings->empty() || strings->back() != 0) return bad;
  Btf btf;
  btf.types_ = *types;
  btf.strings_ = *strings;
  btf.list_.emplace_back();
  for (std::size_t at = 0; at < types->size();) {
    if (types->size() - at < 12) return bad;
    Type t{btf.word(at), btf.word(at + 4), btf.word(at + 8), at + 12};
    const u64 details = details_size(t.kind(), t.count());
    if (t.kind() == 0 || t.kind() >= kMostKinds || details > types->size() - t.details) return bad;
    btf.list_.push_back(t);
    at = t.details + details;
  }
  return btf;
}

std::string_view Btf::name_at(u32 offset) const {
  if (offset >= strings_.size()) return {};
  return reinterpret_cast<const char*>(strings_.data() + offset);
}

bool Btf::is_structure(u32 type) const {
  return type < list_.size() && (list_[type].kind() == kKindStruct || list_[type].kind() == kKindUnion);
}

// nullopt: not in it, or not at a whole byte.
std::optional<u32> Btf::bit_offset(const Type& structure, std::string_view member, unsigned depth,
                                   std::size_t* budget) const {
  for (u32 i = 0; i < structure.count() && *budget; ++i) {
    --*budget;
    const std::size_t at = structure.details + 12 * std::size_t{i};
    const u32 type = word(at + 4), packed = word(at + 8);
    const u32 offset = structure.bit_sizes() ? packed & 0xffffff : packed;
    const std::string_view name = name_at(word(at));
    if (name == member) {
      if (offset % 8 || (structure.bit_sizes() && packed >> 24)) return std::nullopt;
      return offset;
    }
    if (!name.empty() || !is_structure(type) || depth == 0) continue;
    if (const auto inner = bit_offset(list_[type], member, depth - 1, budget)) return offset + *inner;
  }
  return std::nullopt;
}

Result<u32> Btf::offset_of(std::string_view structure, std::string_view member) const {
  // Anonymous structures are each the member of one other, so no more members are looked at than there are;
  // damaged ones may be members of themselves.
  std::size_t budget = types_.size();
  for (const Type& t : list_)
    if (t.kind() == kKindStruct && name_at(t.name) == structure)
      if (const auto bits = bit_offset(t, member, kDeepest, &budget)) return *bits / 8;
  return make_error("the kernel's description of its types (BTF) has no {}.{}", structure, member);
}

Result<u32> Btf::size_of(std::string_view structure) const {
  for (const Type& t : list_)
    if (t.kind() == kKindStruct && name_at(t.name) == structure) return t.size_or_type;
  return make_error("the kernel's description of its types (BTF) has no struct {}", structure);
}

}  // namespace deja
