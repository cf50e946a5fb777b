// The event log as text, one event a line: `deja dump`.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "eventlog/log_reader.h"

namespace deja {

struct DumpFilter {
  std::vector<bool> kinds;  // by index of EventBody's alternatives; empty: all
  Step from = 0;
  Step to = kNeverStep;  // inclusive
};

// "serial,digest" to DumpFilter::kinds; an unknown name is an error that lists the known ones.
Result<std::vector<bool>> parse_kinds(std::string_view text);

// `       1234567 serial port=0 "ls\r"`
std::string format_event(const LogEvent& event);

// Reads `log` to its end (or past filter.to) and hands each chosen line, without newline, to `line`.
Status dump_log(LogReader& log, const DumpFilter& filter,
                const std::function<void(const std::string&)>& line);

}  // namespace deja
