#include "eventlog/dump.h"

namespace deja {

Result<std::vector<bool>> parse_kinds(std::string_view text) {
  std::vector<bool> kinds(kEventKinds, false);
  while (true) {
    const auto comma = text.find(',');
    const auto name = text.substr(0, comma);
    bool found = false;
    for (std::size_t i = 0; i < kEventKinds; ++i) {
      if (kind_name(i) == name) kinds[i] = found = true;
    }
    if (!found) {
      std::string known;
      for (std::size_t i = 0; i < kEventKinds; ++i) {
        if (i) known += ", ";
        known += kind_name(i);
      }
      return make_error("'{}' is not a kind of event; the kinds are {}", name, known);
    }
    if (comma == std::string_view::npos) return kinds;
    text.remove_prefix(comma + 1);
  }
}

std::string format_event(const LogEvent& event) {
  return fmt::format("{:>14} {}", event.step, describe(event.body));
}

Status dump_log(LogReader& log, const DumpFilter& filter,
                const std::function<void(const std::string&)>& line) {
  while (true) {
    DEJA_ASSIGN(const auto event, log.next());
    if (!event || event->step > filter.to) return {};
    if (event->step < filter.from) continue;
    if (!filter.kinds.empty() && !filter.kinds[event->body.index()]) continue;
    line(format_event(*event));
  }
}

}  // namespace deja
