#include "cli/options/engine_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <iterator>

#include "base/log.h"
#include "base/parse_number.h"
#include "execute/cache/perf_map.h"
#include "sandbox/outside_file.h"
#include "sandbox/sandbox.h"

namespace deja {
namespace {

// "no-link, no-inline-tlb, …"
std::string switch_names() {
  std::string names;
  for (const EngineSwitch& s : kEngineSwitches) names += fmt::format("no-{}, ", s.name);
  return names + "max-insns=N";
}

}  // namespace

void EngineArguments::add_to(Command& app) {
  const std::string group = "Engine (never visible to the guest)";
  chaos =
      app.add_option(
             "--chaos-engine", chaos_seed,
             "disturb everything that must not matter, from this seed: caches, block sizes, optimisations, "
             "scratch registers, undefined flags")
          ->group(group);
  app.add_option("--engine", engine, fmt::format("list of: {} (N: 1 to 64)", switch_names()))->group(group);
  app.add_option(
         "--log", log,
         fmt::format(
             "show records on standard error, of all or of a list of: {}; translate:block=ADDR shows how "
             "the code at this linear address is translated",
             fmt::join(kLogCategories, ", ")))
      ->group(group);
  app.add_option(
         "--sandbox", sandbox,
         "confine the program before the guest runs (docs/security.md): on, strict (an error when the host "
         "cannot do all of it), off")
      ->one_of({"on", "strict", "off"})
      ->capture_default_str();
  // Before the verb begins: it starts other processes, and says what it will still need.
  app.parse_complete_callback([this] {
    sandbox::set_mode(sandbox == "off"      ? SandboxMode::off
                      : sandbox == "strict" ? SandboxMode::strict
                                            : SandboxMode::on);
  });
  app.add_flag("--stats", stats, "print the engine's counters at the end")->group(group);
  app.add_flag("--perf-map", perf_map, "write /tmp/perf-PID.map at the end, for `perf report`")->group(group);
}

Status parse_engine_list(std::string_view text, EngineOptions* options) {
  constexpr std::string_view kMaxInsns = "max-insns=";
  while (!text.empty()) {
    const auto comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    text = comma == std::string_view::npos ? "" : text.substr(comma + 1);
    const auto named = std::find_if(
        std::begin(kEngineSwitches), std::end(kEngineSwitches),
        [&](const EngineSwitch& s) { return item.starts_with("no-") && item.substr(3) == s.name; });
    if (named != std::end(kEngineSwitches)) {
      options->translate.*named->on = false;
    } else if (item.starts_with(kMaxInsns)) {
      const std::optional<unsigned> n = parse_number_within(item.substr(kMaxInsns.size()), 1u, 64u);
      if (!n) return make_error("--engine {}: max-insns is 1 to 64", item);
      options->translate.max_insns = *n;
    } else {
      return make_error("--engine {}: there are {}", item, switch_names());
    }
  }
  return {};
}

Result<EngineOptions> EngineArguments::apply() const {
  EngineOptions options;
  DEJA_TRY(parse_engine_list(engine, &options));
  options.perf_map = perf_map;
  if (perf_map) DEJA_TRY(prepare_outside_file(perf_map_path()));
  if (chaos->count() > 0) options.chaos = {true, chaos_seed};
  std::string categories = log;
  constexpr std::string_view kListBlock = "translate:block=";
  if (const auto at = log.find(kListBlock); at != std::string::npos) {
    const auto end = std::min(log.find(',', at), log.size());
    const std::optional<u64> address =
        parse_hex<u64>(std::string_view(log).substr(at + kListBlock.size(), end - at - kListBlock.size()));
    if (!address) return make_error("--log {}: block= takes a hexadecimal address", log);
    options.list_block = *address;
    categories.replace(at, end - at, "translate");
  }
  if (!log.empty())
    if (const Status known = log_enable(categories); !known)
      return make_error("--log {}: {}", log, known.error().message);
  return options;
}

}  // namespace deja
