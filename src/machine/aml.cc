#include "machine/aml.h"

#include <string>

#include "base/check.h"
#include "base/parse_number.h"
#include "machine/boot_memory.h"

namespace deja::aml {
namespace {

void extend(Bytes& out, const Bytes& more) { out.insert(out.end(), more.begin(), more.end()); }

// PkgLength and what it covers, itself included (section 20.2.4).
Bytes with_length(const Bytes& content) {
  Bytes out;
  const std::size_t n = content.size();
  if (n + 1 < 0x40) {
    out.push_back(static_cast<u8>(n + 1));
  } else {
    // The top two bits of the lead byte say how many bytes follow it; its low nibble is the least
    // significant.
    const unsigned extra = n + 2 < (1u << 12) ? 1 : n + 3 < (1u << 20) ? 2 : 3;
    const std::size_t total = n + 1 + extra;
    DEJA_CHECK(total < (1u << 28));
    out.push_back(static_cast<u8>(extra << 6 | (total & 0xf)));
    for (unsigned i = 0; i < extra; ++i) out.push_back(static_cast<u8>(total >> (4 + 8 * i)));
  }
  extend(out, content);
  return out;
}

// NameString (section 20.2.2): an optional root character, then segments of four characters.
Bytes name_string(std::string_view path) {
  Bytes out;
  if (path.starts_with('\\')) {
    out.push_back('\\');
    path.remove_prefix(1);
  }
  DEJA_CHECK(path.size() == 4, "AML name '{}'", path);
  out.insert(out.end(), path.begin(), path.end());
  return out;
}

Bytes prefixed(std::initializer_list<u8> opcode, const Bytes& rest) {
  Bytes out(opcode);
  extend(out, rest);
  return out;
}

// Word or DWord Address Space Descriptor (section 6.4.3.5): the tag, resource type and its flags, then five
// fields.
template <class T>
Bytes address_space(u8 tag, u8 resource_type, u8 type_flags, T first, T last) {
  Bytes out;
  out.push_back(tag);
  append(out, static_cast<u16>(3 + 5 * sizeof(T)));
  out.push_back(resource_type);
  out.push_back(0x0c);  // MinFixed, MaxFixed; producer, positive decode
  out.push_back(type_flags);
  append(out, T{0});  // granularity
  append(out, first);
  append(out, last);
  append(out, T{0});  // translation offset
  append(out, static_cast<T>(last - first + 1));
  return out;
}
constexpr u8 kWordAddressSpace = 0x88, kDwordAddressSpace = 0x87;

}  // namespace

Bytes concat(std::initializer_list<Bytes> parts) {
  Bytes out;
  for (const Bytes& p : parts) extend(out, p);
  return out;
}

Bytes integer(u64 value) {
  Bytes out;
  if (value <= 1) {
    out.push_back(static_cast<u8>(value));  // ZeroOp, OneOp
  } else if (value <= 0xff) {
    out.push_back(0x0a);
    append(out, static_cast<u8>(value));
  } else if (value <= 0xffff) {
    out.push_back(0x0b);
    append(out, static_cast<u16>(value));
  } else if (value <= 0xffffffff) {
    out.push_back(0x0c);
    append(out, static_cast<u32>(value));
  } else {
    out.push_back(0x0e);
    append(out, value);
  }
  return out;
}

Bytes eisa_id(std::string_view id) {
  DEJA_CHECK(id.size() == 7, "EISA id '{}'", id);
  u32 v = 0;
  for (int i = 0; i < 3; ++i) v = v << 5 | static_cast<u32>(id[i] - '@');
  const std::optional<u16> product = parse_number<u16>(id.substr(3), 16);
  DEJA_CHECK(product, "EISA id '{}'", id);
  v = v << 16 | *product;
  Bytes out{0x0c};  // DWordConst, whatever its value
  append(out, __builtin_bswap32(v));
  return out;
}

Bytes package(const std::vector<Bytes>& elements) {
  DEJA_CHECK(elements.size() <= 255);
  Bytes content{static_cast<u8>(elements.size())};
  for (const Bytes& e : elements) extend(content, e);
  return prefixed({0x12}, with_length(content));
}

Bytes buffer(const Bytes& content) {
  return prefixed({0x11}, with_length(concat({integer(content.size()), content})));
}

Bytes name(std::string_view path, const Bytes& value) {
  return prefixed({0x08}, concat({name_string(path), value}));
}

Bytes scope(std::string_view path, const Bytes& terms) {
  return prefixed({0x10}, with_length(concat({name_string(path), terms})));
}

Bytes device(std::string_view path, const Bytes& terms) {
  return prefixed({0x5b, 0x82}, with_length(concat({name_string(path), terms})));
}

Bytes io_port(u16 base, u8 length) {
  Bytes out{0x47, 0x01};  // decodes all 16 address bits
  append(out, base);
  append(out, base);
  out.push_back(1);  // alignment
  out.push_back(length);
  return out;
}

Bytes irq(unsigned irq) {
  Bytes out{0x22};  // without the flags byte: edge, active high, exclusive
  append(out, static_cast<u16>(1u << irq));
  return out;
}

Bytes bus_numbers(u16 first, u16 last) { return address_space<u16>(kWordAddressSpace, 2, 0, first, last); }
Bytes io_window(u16 first, u16 last) {
  return address_space<u16>(kWordAddressSpace, 1, 3, first, last);  // the entire range, ISA and non-ISA
}
Bytes memory_window(u32 first, u32 last) {
  return address_space<u32>(kDwordAddressSpace, 0, 1, first, last);  // read/write, not cacheable
}

Bytes fixed_memory(u32 base, u32 length) {
  Bytes out{0x86, 0x09, 0x00, 0x01};
  append(out, base);
  append(out, length);
  return out;
}

Bytes resource_template(std::initializer_list<Bytes> descriptors) {
  return buffer(concat({concat(descriptors), {0x79, 0x00}}));  // end tag; checksum 0 counts as right
}

}  // namespace deja::aml
