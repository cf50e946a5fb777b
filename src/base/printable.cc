#include "base/printable.h"

#include <array>

#include "base/types.h"

namespace deja {
namespace {

struct Range {
  u32 first, last;
};

// Beyond ASCII: what a terminal obeys, or what changes the look of other characters without being seen
// (Unicode 15, properties Cc, Zl, Zp, Bidi_Control, and Default_Ignorable but for the joiners and selectors
// that scripts need).
constexpr std::array kNotShown = {
    Range{0x80, 0x9f},        // C1
    Range{0xad, 0xad},        // soft hyphen
    Range{0x61c, 0x61c},      // Arabic letter mark
    Range{0x180e, 0x180e},    // Mongolian vowel separator
    Range{0x200b, 0x200b},    // zero width space
    Range{0x200e, 0x200f},    // left-to-right and right-to-left mark
    Range{0x2028, 0x202e},    // separators; embeddings and overrides of the direction
    Range{0x2060, 0x206f},    // invisible operators; isolates of the direction
    Range{0xfeff, 0xfeff},    // byte order mark
    Range{0xfff0, 0xfffb},    // annotations
    Range{0xe0000, 0xe0fff},  // tags
};

// The character at the beginning of `text` and its size in bytes; size 0: these bytes are no UTF-8 (RFC
// 3629).
struct Character {
  u32 code = 0;
  std::size_t size = 0;
};

Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<u8>(text[i]); };
  const u8 lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t size = lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
  if (size == 0 || size > text.size()) return {};
  u32 code = lead & (0x7fu >> size);
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr std::array<u32, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  if (code < kLeast[size] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return {};
  return {code, size};
}

bool is_shown(u32 code) {
  if (code < 0x80) return code >= 0x20 && code != 0x7f;
  if ((code & 0xfffe) == 0xfffe) return false;  // no characters, in any plane
  for (const Range& r : kNotShown)
    if (code >= r.first && code <= r.last) return false;
  return true;
}

void escape(std::string& out, Character c, std::string_view text) {
  switch (c.code) {
    case '\n':
      out += "\\n";
      break;
    case '\r':
      out += "\\r";
      break;
    case '\t':
      out += "\\t";
      break;
    default:
      if (c.code < 0x80)
        out += fmt::format("\\x{:02x}", static_cast<u8>(text[0]));
      else
        out += fmt::format("\\u{:04x}", c.code);
  }
}

std::string shown(std::string_view text, bool keep_lines) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Character c = first_character(text);
    const std::size_t size = c.size ? c.size : 1;
    if (c.size && (is_shown(c.code) || (keep_lines && (c.code == '\n' || c.code == '\t'))))
      out += text.substr(0, size);
    else
      escape(out, c, text);
    text.remove_prefix(size);
  }
  return out;
}

}  // namespace

std::string printable(std::string_view text) { return shown(text, false); }
std::string printable_lines(std::string_view text) { return shown(text, true); }

}  // namespace deja
