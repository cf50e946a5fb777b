#include "replay/end_condition.h"

#include <utility>

#include "base/printable.h"

namespace deja {

Result<EndCondition> parse_end_condition(std::string_view text) {
  using enum EndCondition::Kind;
  const std::string shown = show("--until {}", text);
  if (text == "panic") return EndCondition{serial, std::string(kPanicText), shown};
  constexpr std::pair<std::string_view, EndCondition::Kind> kKinds[] = {{"serial:", serial}, {"mark:", mark}};
  for (const auto& [prefix, kind] : kKinds) {
    if (!text.starts_with(prefix)) continue;
    std::string_view rest = text.substr(prefix.size());
    if (kind == serial && rest.size() >= 2 && rest.starts_with('"') && rest.ends_with('"'))
      rest = rest.substr(1, rest.size() - 2);
    if (rest.empty()) return make_error("--until {}: which text?", text);
    return EndCondition{kind, std::string(rest), shown};
  }
  return make_error("--until {}: write serial:\"text\", panic or mark:NAME", text);
}

bool TextWatch::seen_in(std::string_view piece) {
  tail_ += piece;
  if (tail_.find(text_) != tail_.npos) {
    tail_.clear();
    return true;
  }
  if (tail_.size() >= text_.size()) tail_.erase(0, tail_.size() - text_.size() + 1);
  return false;
}

}  // namespace deja
