// Files that hold a disk in a form that is not read here, known by what they begin or end with. Without this
// they would be taken for raw images, and the guest would get the container's bytes.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/types.h"

namespace deja {

struct ForeignFormat {
  std::string_view name;       // for people
  std::string_view qemu_name;  // for `qemu-img convert -f`; empty: it cannot
  std::string_view remedy;     // then: what to do instead
};

inline constexpr std::size_t kSignBytes = 512;  // at either end of a file in which signs are looked for

// The format of a file that begins and ends like this, each kSignBytes or less where it is shorter. Empty
// when it is in none of them. A guest may have written the signs to a raw disk.
std::optional<ForeignFormat> foreign_format(std::span<const u8> start, std::span<const u8> end);
// Finds a format by the name that qemu-img has for it.
std::optional<ForeignFormat> foreign_format_named(std::string_view qemu_name);

// The advice for such a file, for a message.
std::string remedy(const ForeignFormat& format, const std::string& path);

}  // namespace deja
