#include "replay/replay_session.h"

#include "base/printable.h"
#include "replay/machine_report.h"
#include "replay/position.h"
#include "replay/survey.h"

namespace deja {
namespace {

constexpr u64 kDrainNs = 100'000'000;

std::string report_of(Replayer& replayer, const ReplayRequest& request) {
  const Divergence& d = *replayer.divergence();
  std::string text =
      show("At step {} the replay is not what was recorded: {}.\n", format_count(d.step), d.reason);
  text += d.last_good ? show("The digest at step {} was identical.\n", format_count(d.last_good))
                      : "No digest before it was checked.\n";
  if (d.digests) {
    const auto row = [&](const char* name, u64 recorded, u64 replayed) {
      text += show("  {:<8} {:016x}  {:016x}{}\n", name, recorded, replayed,
                   recorded == replayed ? "" : "  differs");
    };
    text += show("  {:<8} {:<16}  {}\n", "digest", "recorded", "replayed");
    row("cpu", d.digests->recorded.cpu, d.digests->replayed.cpu);
    row("ram", d.digests->recorded.ram, d.digests->replayed.ram);
    row("devices", d.digests->recorded.devices, d.digests->replayed.devices);
    // Before anything else looks at the machine, which may set accessed bits.
    if (request.compare) text += "\n" + printable_lines(request.compare(d, replayer.machine()));
  }
  text += "\nThe replayed machine:\n" + describe_cpus(replayer.machine());
  text += "\nLast events applied:\n";
  for (const LogEvent& e : replayer.recent_events()) text += show("  {:>14} {}\n", e.step, describe(e.body));
  const std::string engine = engine_arguments(request.engine);
  text += show("\nTo find the instruction where they part:\n  deja bisect {}{}\n",
               engine.empty() ? "" : engine + " ", request.dir.string());
  return text;
}

}  // namespace

std::string engine_arguments(const EngineOptions& options) {
  const TranslateOptions standard;
  std::string list;
  const auto add = [&](const std::string& item) { list += (list.empty() ? "" : ",") + item; };
  for (const EngineSwitch& s : kEngineSwitches)
    if (!(options.translate.*s.on)) add(show("no-{}", s.name));
  if (options.translate.max_insns != standard.max_insns)
    add(show("max-insns={}", options.translate.max_insns));
  std::string text = options.chaos.enabled ? show("--chaos-engine {}", options.chaos.seed) : "";
  if (!list.empty()) text += (text.empty() ? "--engine " : " --engine ") + list;
  return text;
}

Result<ReplayReport> run_replay(const ReplayRequest& request, SerialOutput& output, HostClock& clock) {
  // The log first, from end to end: a damaged one is refused before anything runs.
  DEJA_ASSIGN(Recording recording, Recording::open(request.dir));
  const LogSurvey survey = survey_log(recording);
  ReplayReport report;
  const StepRange steps = steps_on_record(recording.manifest, survey);
  report.damage = steps.damage;
  report.note = incomplete_note(recording.state, survey, steps);
  if (request.to.empty()) DEJA_TRY(require_sound(request.dir, steps));
  Step target = steps.last;
  if (!request.to.empty()) {
    DEJA_ASSIGN(target, parse_position(request.to, steps));
  }

  const u64 start = clock.monotonic_ns();
  Status output_status;
  Replayer::Hooks hooks;
  hooks.output = [&](std::string_view text) {
    output.write(0, text);
    if (output_status) output_status = output.drain(0);
    while (output_status && output.backlogged()) output_status = output.drain(kDrainNs);
  };
  if (request.realtime) {
    hooks.pace = [&](VtimeNs now) {
      const u64 at = start + now;
      if (clock.monotonic_ns() >= at) return;
      if (output_status) output_status = output.drain(kDrainNs);
      clock.sleep_until(at);
    };
  }
  DEJA_ASSIGN(const std::unique_ptr<Replayer> replayer,
              Replayer::open(request.dir, request.engine, std::move(hooks)));
  // In pieces, so that output that cannot be shown ends the replay soon.
  constexpr Step kPiece = 100'000'000;
  Replayer::Stop stop = Replayer::Stop::reached;
  while (true) {
    const Step next = std::min(target, replayer->step() + kPiece);
    DEJA_ASSIGN(stop, replayer->run_to(next));
    if (!output_status) return output_status.error();
    if (stop != Replayer::Stop::reached || next == target) break;
  }
  report.host_ns = clock.monotonic_ns() - start;
  if (output_status) {
    while (output.backlogged() && output_status) output_status = output.drain(kDrainNs);
    if (output_status) output_status = output.drain(kDrainNs);
  }
  if (!output_status) return output_status.error();
  report.steps = replayer->step();
  report.instructions = replayer->instructions() - replayer->instructions_before();
  report.digests = replayer->digests_checked();
  report.counters = replayer->machine().engine().counters();
  if (stop == Replayer::Stop::diverged) {
    report.divergence = replayer->divergence();
    report.divergence_report = report_of(*replayer, request);
  }
  return report;
}

}  // namespace deja
