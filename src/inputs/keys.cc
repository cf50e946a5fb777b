#include "inputs/keys.h"

#include <algorithm>
#include <vector>

#include "base/types.h"

namespace deja {
namespace {

constexpr char kExtended = '\xe0', kReleased = '\xf0';
constexpr std::size_t kMaxKeys = 4;

struct Key {
  std::string_view name;
  u8 code;
  bool extended = false;
};

constexpr Key kKeys[] = {
    {"a", 0x1c},
    {"b", 0x32},
    {"c", 0x21},
    {"d", 0x23},
    {"e", 0x24},
    {"f", 0x2b},
    {"g", 0x34},
    {"h", 0x33},
    {"i", 0x43},
    {"j", 0x3b},
    {"k", 0x42},
    {"l", 0x4b},
    {"m", 0x3a},
    {"n", 0x31},
    {"o", 0x44},
    {"p", 0x4d},
    {"q", 0x15},
    {"r", 0x2d},
    {"s", 0x1b},
    {"t", 0x2c},
    {"u", 0x3c},
    {"v", 0x2a},
    {"w", 0x1d},
    {"x", 0x22},
    {"y", 0x35},
    {"z", 0x1a},
    {"0", 0x45},
    {"1", 0x16},
    {"2", 0x1e},
    {"3", 0x26},
    {"4", 0x25},
    {"5", 0x2e},
    {"6", 0x36},
    {"7", 0x3d},
    {"8", 0x3e},
    {"9", 0x46},
    {"ret", 0x5a},
    {"spc", 0x29},
    {"esc", 0x76},
    {"tab", 0x0d},
    {"backspace", 0x66},
    {"minus", 0x4e},
    {"equal", 0x55},
    {"bracket_left", 0x54},
    {"bracket_right", 0x5b},
    {"backslash", 0x5d},
    {"semicolon", 0x4c},
    {"apostrophe", 0x52},
    {"grave_accent", 0x0e},
    {"comma", 0x41},
    {"dot", 0x49},
    {"slash", 0x4a},
    {"less", 0x61},
    {"caps_lock", 0x58},
    {"num_lock", 0x77},
    {"scroll_lock", 0x7e},
    {"shift", 0x12},
    {"shift_r", 0x59},
    {"ctrl", 0x14},
    {"ctrl_r", 0x14, true},
    {"alt", 0x11},
    {"alt_r", 0x11, true},
    {"meta_l", 0x1f, true},
    {"meta_r", 0x27, true},
    {"menu", 0x2f, true},
    {"up", 0x75, true},
    {"down", 0x72, true},
    {"left", 0x6b, true},
    {"right", 0x74, true},
    {"home", 0x6c, true},
    {"end", 0x69, true},
    {"pgup", 0x7d, true},
    {"pgdn", 0x7a, true},
    {"insert", 0x70, true},
    {"delete", 0x71, true},
    {"f1", 0x05},
    {"f2", 0x06},
    {"f3", 0x04},
    {"f4", 0x0c},
    {"f5", 0x03},
    {"f6", 0x0b},
    {"f7", 0x83},
    {"f8", 0x0a},
    {"f9", 0x01},
    {"f10", 0x09},
    {"f11", 0x78},
    {"f12", 0x07},
};

}  // namespace

Result<std::string> scan_codes(std::string_view combination) {
  std::vector<const Key*> keys;
  for (std::string_view rest = combination;;) {
    const auto end = rest.find('-');
    const std::string_view name = rest.substr(0, end);
    const Key* key =
        std::find_if(std::begin(kKeys), std::end(kKeys), [&](const Key& k) { return k.name == name; });
    if (key == std::end(kKeys) || keys.size() == kMaxKeys)
      return make_error(
          "a key is a letter, a digit, or one of ret, spc, tab, esc, shift, ctrl, alt, f1…, up…; "
          "up to {} are joined by '-'",
          kMaxKeys);
    keys.push_back(key);
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  std::string codes;
  const auto add = [&](const Key& key, bool released) {
    if (key.extended) codes += kExtended;
    if (released) codes += kReleased;
    codes += static_cast<char>(key.code);
  };
  for (const Key* key : keys) add(*key, false);
  std::reverse(keys.begin(), keys.end());
  for (const Key* key : keys) add(*key, true);
  return codes;
}

}  // namespace deja
