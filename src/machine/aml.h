// Assembles ACPI Machine Language (ACPI 6.4 chapter 20), as much of it as our DSDT needs: every function
// returns the encoded bytes of one term.
#pragma once

#include <initializer_list>
#include <string_view>
#include <vector>

#include "base/types.h"

namespace deja::aml {

using Bytes = std::vector<u8>;

Bytes concat(std::initializer_list<Bytes> parts);

// Data objects.
Bytes integer(u64 value);
Bytes eisa_id(std::string_view id);  // "PNP0A03": three letters, four hexadecimal digits
Bytes package(const std::vector<Bytes>& elements);
Bytes buffer(const Bytes& content);

// Named objects. A name is a path of four-character segments, padded with '_': "_S5_", "\\_SB_".
Bytes name(std::string_view path, const Bytes& value);
Bytes scope(std::string_view path, const Bytes& terms);
Bytes device(std::string_view path, const Bytes& terms);

// Resource descriptors (section 6.4), to be joined in a resource_template().
Bytes io_port(u16 base, u8 length);
Bytes irq(unsigned irq);  // edge-triggered, active high, exclusive
Bytes bus_numbers(u16 first, u16 last);
Bytes io_window(u16 first, u16 last);
Bytes memory_window(u32 first, u32 last);
Bytes fixed_memory(u32 base, u32 length);  // read/write
// A buffer of the descriptors with their end tag.
Bytes resource_template(std::initializer_list<Bytes> descriptors);

}  // namespace deja::aml
