// What ends a session by itself (`--until`), in the words of positions: serial:"text", panic, mark:NAME.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"
#include "base/types.h"

namespace deja {

// A Linux guest that panics says so on its console.
inline constexpr std::string_view kPanicText = "Kernel panic - not syncing";

struct EndCondition {
  enum class Kind : u8 { serial, mark } kind = Kind::serial;
  std::string text;
  std::string shown;  // the option that asked for it, for messages
};

Result<EndCondition> parse_end_condition(std::string_view text);

// Looks for a text in what comes in pieces.
class TextWatch {
 public:
  explicit TextWatch(std::string text) : text_(std::move(text)) {}
  // Whether the text is complete with this piece.
  bool seen_in(std::string_view piece);

 private:
  std::string text_;
  std::string tail_;  // of what came before: too short to hold the text
};

}  // namespace deja
