#include "cli/engine_options.h"

#include <charconv>

#include "base/log.h"

namespace deja {

void EngineArguments::add_to(CLI::App& app) {
  const std::string group = "Engine (never visible to the guest)";
  chaos =
      app.add_option(
             "--chaos-engine", chaos_seed,
             "disturb everything that must not matter, from this seed: caches, block sizes, optimisations, "
             "scratch registers, undefined flags")
          ->group(group);
  app.add_option("--engine", engine,
                 "list of: no-link, no-inline-tlb, no-inline-jumps, no-quick, max-insns=N (1 to 64)")
      ->group(group);
  app.add_option("--log", log,
                 "show records of these categories on standard error: guest,devices,machine,… or all")
      ->group(group);
  app.add_flag("--stats", stats, "print the engine's counters at the end")->group(group);
}

Status parse_engine_list(std::string_view text, EngineOptions* options) {
  constexpr std::string_view kMaxInsns = "max-insns=";
  while (!text.empty()) {
    const auto comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    text = comma == std::string_view::npos ? "" : text.substr(comma + 1);
    if (item == "no-link") {
      options->translate.link = false;
    } else if (item == "no-inline-tlb") {
      options->translate.inline_tlb = false;
    } else if (item == "no-inline-jumps") {
      options->translate.inline_jumps = false;
    } else if (item == "no-quick") {
      options->translate.quick = false;
    } else if (item.starts_with(kMaxInsns)) {
      const std::string_view digits = item.substr(kMaxInsns.size());
      unsigned n = 0;
      const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), n);
      if (error != std::errc() || end != digits.data() + digits.size() || n < 1 || n > 64)
        return make_error("--engine {}: max-insns is 1 to 64", item);
      options->translate.max_insns = n;
    } else {
      return make_error("--engine {}: there are no-link, no-inline-tlb, no-inline-jumps, no-quick, max-insns=N", item);
    }
  }
  return {};
}

Result<EngineOptions> EngineArguments::apply() const {
  EngineOptions options;
  DEJA_TRY(parse_engine_list(engine, &options));
  options.chaos.enabled = chaos->count() > 0;
  options.chaos.seed = chaos_seed;
  if (!log.empty() && !log_enable(log)) return make_error("--log {}: a category is empty", log);
  return options;
}

}  // namespace deja
