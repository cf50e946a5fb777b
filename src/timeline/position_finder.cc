#include "timeline/position_finder.h"

#include <algorithm>
#include <charconv>
#include <functional>
#include <string>

#include "base/printable.h"
#include "replay/end_condition.h"
#include "replay/position.h"
#include "timeline/guest_view.h"
#include "timeline/serial_text.h"

namespace deja {
namespace {

constexpr i64 kSecond = 1'000'000'000;
constexpr i64 kDay = 86'400 * kSecond;
constexpr std::size_t kListed = 5;  // places that an error about several of them lists
constexpr std::string_view kForms =
    "write a step number, N%, start, end, +2s or -500ms, a date such as 2026-11-22 15:30:12 or 15:30:12 "
    "(UTC), "
    "serial:\"text\", panic, mark:NAME or event:N";

Error not_a_position(std::string_view text) { return make_error("'{}' is not a position; {}", text, kForms); }

bool is_plain(std::string_view text) {
  return text == "start" || text == "end" ||
         (!text.empty() && text.find_first_not_of("0123456789,_%") == text.npos);
}

template <class T>
bool parse_number(std::string_view text, T* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

// Takes "#3" off the end; 0: there is none.
u64 take_occurrence(std::string_view* text) {
  const std::size_t hash = text->rfind('#');
  u64 n = 0;
  if (hash == text->npos || !parse_number(text->substr(hash + 1), &n) || n == 0) return 0;
  *text = text->substr(0, hash);
  return n;
}

// Several places and one wanted. `damage`: StepRange::damage_note().
Result<Step> choose(std::size_t count, const std::function<Result<Step>(std::size_t)>& place, u64 occurrence,
                    std::string_view what, std::string_view damage) {
  if (count == 0) return make_error("{} does not occur in this recording{}", what, damage);
  if (occurrence) {
    if (occurrence <= count) return place(occurrence - 1);
    return make_error("{} occurs {} times, not {}{}", what, count, occurrence, damage);
  }
  if (count == 1) return place(0);
  std::string list;
  for (std::size_t i = 0; i < std::min(count, kListed); ++i) {
    DEJA_ASSIGN(const Step step, place(i));
    list += fmt::format("{} {}#{} (step {})", i ? "," : "", what, i + 1, format_count(step));
  }
  return make_error("{} occurs {} times; say which:{}{}", what, count, list, count > kListed ? "…" : "");
}

// "2.5s" to nanoseconds.
std::optional<u64> parse_duration(std::string_view text) {
  constexpr std::pair<std::string_view, u64> kUnits[] = {
      {"ns", 1}, {"us", 1'000}, {"ms", 1'000'000}, {"min", 60'000'000'000}, {"s", 1'000'000'000}};
  for (const auto& [unit, ns] : kUnits) {
    if (!text.ends_with(unit)) continue;
    text.remove_suffix(unit.size());
    const std::size_t dot = text.find('.');
    u64 whole = 0;
    if (!parse_number(text.substr(0, dot), &whole) || whole > ~u64{0} / ns / 2) return std::nullopt;
    u64 total = whole * ns;
    if (dot == text.npos) return total;
    u64 scale = ns;
    for (const char c : text.substr(dot + 1)) {
      if (c < '0' || c > '9') return std::nullopt;
      scale /= 10;
      total += static_cast<u64>(c - '0') * scale;
    }
    return total;
  }
  return std::nullopt;
}

// Days since 1970 of a date in the proleptic Gregorian calendar.
i64 days_from_civil(i64 y, unsigned m, unsigned d) {
  y -= m <= 2;
  const i64 era = (y >= 0 ? y : y - 399) / 400;
  const unsigned yoe = static_cast<unsigned>(y - era * 400);
  const unsigned doy = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
  const unsigned doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
  return era * 146'097 + static_cast<i64>(doe) - 719'468;
}

struct WallTime {
  std::optional<i64> day;  // start of the day, ns since 1970
  i64 in_day = 0;          // ns
};

// "[YYYY-MM-DD( |T)]HH:MM[:SS[.fff]][Z| UTC]"
std::optional<WallTime> parse_wall_time(std::string_view text) {
  for (const std::string_view zone : {" UTC", "Z"})
    if (text.ends_with(zone)) text.remove_suffix(zone.size());
  WallTime out;
  if (text.size() > 10 && text[4] == '-' && text[7] == '-' && (text[10] == ' ' || text[10] == 'T')) {
    i64 y = 0;
    unsigned m = 0, d = 0;
    if (!parse_number(text.substr(0, 4), &y) || !parse_number(text.substr(5, 2), &m) ||
        !parse_number(text.substr(8, 2), &d) || m < 1 || m > 12 || d < 1 || d > 31)
      return std::nullopt;
    out.day = days_from_civil(y, m, d) * kDay;
    text.remove_prefix(11);
  }
  unsigned hour = 0, minute = 0;
  if (text.size() < 5 || text[2] != ':' || !parse_number(text.substr(0, 2), &hour) ||
      !parse_number(text.substr(3, 2), &minute) || hour > 23 || minute > 59)
    return std::nullopt;
  out.in_day = (i64{hour} * 60 + minute) * 60 * kSecond;
  text.remove_prefix(5);
  if (text.empty()) return out;
  if (text[0] != ':') return std::nullopt;
  const std::optional<u64> seconds = parse_duration(std::string(text.substr(1)) + "s");
  if (!seconds || *seconds >= 61 * static_cast<u64>(kSecond)) return std::nullopt;
  out.in_day += static_cast<i64>(*seconds);
  return out;
}

struct Log {
  struct Mark {
    std::string text;
    Step step;
  };
  struct Date {
    i64 unix_ns;
    Step step;
  };
  std::vector<Mark> marks;
  std::vector<Date> dates;  // what the host's clock said when
  std::vector<Step> steps;  // of every event, the first being 1
  std::string damage;       // as StepRange::damage_note()
};

Result<Log> read_log(const std::filesystem::path& dir) {
  DEJA_ASSIGN(Recording recording, Recording::open(dir));
  Log log;
  std::optional<i64> start;  // the date at which host time was 0
  u64 host_ns = 0;
  while (true) {
    auto next = recording.log.next();
    if (!next || !*next) {
      const Status whole = next ? recording.check_end() : Status(next.error());
      if (!whole) log.damage = StepRange{0, recording.log.last_step(), whole.error()}.damage_note();
      return log;
    }
    const LogEvent& e = **next;
    log.steps.push_back(e.step);
    if (const auto* mark = std::get_if<input::Mark>(&e.body)) log.marks.push_back({mark->text, e.step});
    if (const auto* wall = std::get_if<event::WallClock>(&e.body)) {
      start = wall->unix_ns - static_cast<i64>(host_ns);
      log.dates.push_back({wall->unix_ns, e.step});
    } else if (const auto* progress = std::get_if<event::Progress>(&e.body)) {
      host_ns = progress->host_ns;
      if (start) log.dates.push_back({*start + static_cast<i64>(host_ns), e.step});
    }
  }
}

Result<Step> find_date(const Log& log, WallTime time, std::string_view text) {
  if (log.dates.empty()) return make_error("the recording does not say when it was made{}", log.damage);
  const i64 first = log.dates.front().unix_ns, last = log.dates.back().unix_ns;
  i64 wanted = time.day ? *time.day + time.in_day : first - first % kDay + time.in_day;
  if (!time.day && wanted < first && wanted + kDay <= last) wanted += kDay;
  if (wanted < first || wanted > last)
    return make_error("{} is outside of the recording, which goes from {} to {}{}", text, format_date(first),
                      format_date(last), log.damage);
  for (std::size_t i = 1; i < log.dates.size(); ++i) {
    const Log::Date &a = log.dates[i - 1], &b = log.dates[i];
    if (wanted > b.unix_ns || b.unix_ns <= a.unix_ns) continue;
    const u128 part = u128{b.step - a.step} * static_cast<u64>(std::max<i64>(wanted - a.unix_ns, 0));
    return a.step + static_cast<Step>(part / static_cast<u64>(b.unix_ns - a.unix_ns));
  }
  return log.dates.back().step;
}

Result<Step> find_in_serial(Navigator& nav, std::string_view needle, u64 occurrence, std::string_view what) {
  DEJA_ASSIGN(SerialSearch search, SerialSearch::open(nav));
  const std::size_t count = search.find(needle);
  return choose(
      count, [&](std::size_t i) { return search.step_of(i); }, occurrence, what, nav.steps().damage_note());
}

Result<Step> find_relative(Navigator& nav, std::string_view text, std::optional<Step> here) {
  const std::optional<u64> ns = parse_duration(text.substr(1));
  if (!ns) return not_a_position(text);
  const bool forward = text[0] == '+';
  VtimeNs from = 0;
  if (!forward && !here && nav.steps().damage) {
    // The end cannot be gone to, but the manifest may say when it was.
    if (auto end = nav.steps().whole_end(); !end) return make_error("'{}': {}", text, end.error().message);
    from = nav.manifest().end->virtual_ns;
  } else {
    DEJA_TRY(nav.seek(here ? *here : forward ? nav.first() : nav.last()));
    from = nav.machine().now();
  }
  if (!forward && *ns > from)
    return make_error("{} is before the start: only {:.3f} s of the guest's time lie before", text,
                      static_cast<double>(from) / 1e9);
  return first_step_at(nav, forward ? from + *ns : from - *ns);
}

// What the log alone answers; nullopt: `text` is of another form.
Result<std::optional<Step>> find_in_log(const std::filesystem::path& dir, std::string_view text) {
  using Found = std::optional<Step>;
  if (text.starts_with("mark:")) {
    DEJA_ASSIGN(const Log log, read_log(dir));
    const auto named = [&](std::string_view name) {
      std::vector<Step> places;
      for (const Log::Mark& m : log.marks)
        if (m.text == name) places.push_back(m.step);
      return places;
    };
    std::string_view name = text.substr(5);
    std::vector<Step> places = named(name);
    u64 occurrence = 0;
    if (places.empty() && (occurrence = take_occurrence(&name))) places = named(name);
    DEJA_ASSIGN(const Step step, choose(
                                     places.size(), [&](std::size_t i) { return Result<Step>(places[i]); },
                                     occurrence, fmt::format("mark:{}", name), log.damage));
    return Found(step);
  }
  if (text.starts_with("event:")) {
    u64 n = 0;
    if (!parse_number(text.substr(6), &n) || n == 0) return not_a_position(text);
    DEJA_ASSIGN(const Log log, read_log(dir));
    if (n > log.steps.size())
      return make_error("{}: the log has {} events, the first being event:1{}", text, log.steps.size(),
                        log.damage);
    return Found(log.steps[n - 1]);
  }
  if (const std::optional<WallTime> time = parse_wall_time(text)) {
    DEJA_ASSIGN(const Log log, read_log(dir));
    DEJA_ASSIGN(const Step step, find_date(log, *time, text));
    return Found(step);
  }
  return Found();
}

}  // namespace

Result<Step> first_step_at(Navigator& nav, VtimeNs time) {
  // Checkpoints say between which two steps; then halves.
  Step low = nav.first(), high = nav.last();
  const CheckpointReader& c = nav.checkpoints();
  for (std::size_t i = 0; i < c.size() && c.point(i).step <= nav.last(); ++i) {
    if (c.point(i).vtime >= time) {
      high = c.point(i).step;
      break;
    }
    low = c.point(i).step;
  }
  DEJA_TRY(nav.seek(high));
  if (nav.machine().now() < time)
    return make_error("{:.3f} s of the guest's time are behind the end of {}, which is at {:.3f} s{}",
                      static_cast<double>(time) / 1e9,
                      nav.steps().damage ? "what is intact" : "the recording",
                      static_cast<double>(nav.machine().now()) / 1e9, nav.steps().damage_note());
  while (low < high) {
    const Step middle = low + (high - low) / 2;
    DEJA_TRY(nav.seek(middle));
    if (nav.machine().now() >= time)
      high = middle;
    else
      low = middle + 1;
  }
  return low;
}

Result<Step> find_position(Navigator& nav, std::string_view text, std::optional<Step> here) {
  if (is_plain(text)) return parse_position(text, nav.steps());
  if (text.starts_with('+') || text.starts_with('-')) return find_relative(nav, text, here);
  if (text.starts_with("panic")) {
    std::string_view rest = text;
    const u64 occurrence = take_occurrence(&rest);
    if (rest == "panic") return find_in_serial(nav, kPanicText, occurrence ? occurrence : 1, "panic");
  }
  if (text.starts_with("serial:")) {
    std::string_view needle = text.substr(7);
    u64 occurrence = 0;
    if (needle.starts_with('"')) {
      if (!needle.ends_with('"')) occurrence = take_occurrence(&needle);
      if (needle.size() < 2 || !needle.ends_with('"'))
        return make_error("{}: the closing quote is missing", text);
      needle = needle.substr(1, needle.size() - 2);
    } else {
      occurrence = take_occurrence(&needle);  // the shell may have taken the quotes
    }
    if (needle.empty()) return make_error("{}: which text?", text);
    return find_in_serial(nav, needle, occurrence, fmt::format("serial:\"{}\"", needle));
  }
  DEJA_ASSIGN(const std::optional<Step> found, find_in_log(nav.dir(), text));
  if (!found) return not_a_position(text);
  return *found;
}

Result<Step> find_position(const std::filesystem::path& dir, const EngineOptions& engine,
                           std::string_view text) {
  if (is_plain(text)) {
    DEJA_ASSIGN(Recording recording, Recording::open(dir));
    const LogSurvey survey = survey_log(recording);
    return parse_position(text, steps_on_record(recording.manifest, survey));
  }
  DEJA_ASSIGN(const std::optional<Step> found, find_in_log(dir, text));
  if (found) return *found;
  DEJA_ASSIGN(const std::unique_ptr<Navigator> nav, Navigator::open(dir, engine));
  return find_position(*nav, text);
}

std::string describe_moment(const Navigator& nav, unsigned vcpu) {
  const CpuState& s = nav.machine().cpu(vcpu);
  const Step at = nav.position(), first = nav.first();
  const u64 ns = nav.machine().now();
  auto last = nav.steps().whole_end();
  const std::string percent =
      !last ? "of a damaged recording"
      : *last > first
          ? show("{:.2f}%", 100.0 * static_cast<double>(at - first) / static_cast<double>(*last - first))
          : "100.00%";
  return show("step {} ({}), {}.{:09} s of guest time, vCPU {} {} at {:#x}", format_count(at), percent,
              ns / 1'000'000'000, ns % 1'000'000'000, vcpu, s.cpl() == 3 ? "user" : "kernel", linear_pc(s));
}

}  // namespace deja
