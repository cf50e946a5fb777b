#include "timeline/trim.h"

#include <algorithm>

#include "replay/apply.h"
#include "replay/build_info.h"
#include "replay/checkpointing.h"
#include "timeline/checkpointed_run.h"

namespace deja {

namespace fs = std::filesystem;

namespace {

// What a recording that is not finished leaves behind goes with it.
class UnlessFinished {
 public:
  explicit UnlessFinished(fs::path dir) : dir_(std::move(dir)) {}
  ~UnlessFinished() {
    std::error_code ec;
    if (!dir_.empty() && !remove_recording(dir_)) fs::remove_all(dir_, ec);
  }
  void finished() { dir_.clear(); }

 private:
  fs::path dir_;
};

// The host's clocks at a step, by the marks around it.
struct HostTime {
  u64 since_start_ns = 0;
  i64 unix_ns = 0;
};

HostTime host_time_at(const std::vector<LogEvent>& log, Step step) {
  Step mark_step = 0, next_step = 0;
  u64 mark_ns = 0, next_ns = 0;
  i64 start = 0;  // the date at which host time was 0
  for (const LogEvent& e : log) {
    if (const auto* wall = std::get_if<event::WallClock>(&e.body); wall && e.step <= step)
      start = wall->unix_ns - static_cast<i64>(mark_ns);
    const auto* progress = std::get_if<event::Progress>(&e.body);
    if (!progress) continue;
    if (e.step > step) {
      next_step = e.step, next_ns = progress->host_ns;
      break;
    }
    mark_step = e.step, mark_ns = progress->host_ns;
  }
  u64 ns = mark_ns;
  if (next_step > mark_step && next_ns > mark_ns)
    ns += static_cast<u64>(u128{next_ns - mark_ns} * (step - mark_step) / (next_step - mark_step));
  return {ns, start + static_cast<i64>(ns)};
}

Result<std::vector<LogEvent>> read_events(const Navigator& nav, u64 count) {
  DEJA_ASSIGN(Recording recording, Recording::reopen(nav.dir(), nav.manifest()));
  std::vector<LogEvent> log;
  while (log.size() < count) {
    DEJA_ASSIGN(const std::optional<LogEvent> event, recording.log.next());
    if (!event) break;
    log.push_back(*event);
  }
  return log;
}

EventBody digest_event(Machine& machine) {
  bring_to_rest(machine);
  const MachineDigest d = machine.digest();
  return event::Digest{d.cpu, d.ram, d.devices};
}

// What the log of the window begins with: when it was, and what the machine is.
constexpr u64 kOpeningEvents = 3;

}  // namespace

Result<TrimReport> trim_recording(Navigator& nav, const TrimRequest& request, HostClock& clock) {
  const Step from = request.from, to = request.to;
  if (from >= to)
    return make_error("there is nothing between step {} and step {}", format_count(from), format_count(to));
  DEJA_TRY(check_position(to, nav.steps()));
  DEJA_TRY(nav.seek(from));
  DEJA_TRY(nav.load_all());  // a base has all of RAM
  Replayer& replayer = nav.replayer();
  Machine& machine = nav.machine();
  if (machine.end() != MachineEnd::none)
    return make_error("the machine has ended at step {}: begin at an earlier moment", format_count(from));

  RecordingManifest manifest = nav.manifest();
  manifest.build = build_version();
  manifest.base = BaseInfo{from, machine.now(), replayer.instructions(), nav.dir().stem().string(),
                           nav.manifest().created_unix_ns};
  manifest.window.reset();
  if (manifest.parent && manifest.parent->step <= from) manifest.parent.reset();

  DEJA_ASSIGN(const fs::path dir, create_recording_dir(request.name, clock.wall_unix_ns()));
  UnlessFinished cleanup(dir);
  DEJA_TRY(share_inputs(nav.dir(), dir, manifest.inputs));
  DEJA_ASSIGN(const std::unique_ptr<RecordingWriter> recording,
              RecordingWriter::create(dir, std::move(manifest), clock));
  point_latest_to(dir);
  DEJA_ASSIGN(std::unique_ptr<AppendFile> file,
              create_append_file((dir / checkpoints_file(recording->manifest())).string()));
  DEJA_ASSIGN(
      const std::unique_ptr<CheckpointWriter> checkpoints,
      CheckpointWriter::create(std::move(file), checkpoint_owner(recording->manifest()), machine.ram()));

  const u64 skipped = replayer.counts().events;
  SessionCounts counts = replayer.counts();
  counts.events = 0;
  const EventBody first_digest = digest_event(machine);
  DEJA_TRY(checkpoints->take_base(checkpoint_point(machine, counts, {})));
  const i64 offset = static_cast<i64>(kOpeningEvents) - static_cast<i64>(skipped);
  DEJA_TRY(run_with_checkpoints(replayer, *checkpoints, {to, request.interval, offset, request.progress}));
  DEJA_TRY(checkpoints->finish());

  DEJA_ASSIGN(const std::vector<LogEvent> log, read_events(nav, replayer.counts().events));
  const HostTime began = host_time_at(log, from);
  DEJA_TRY(recording->append({from, event::Progress{began.since_start_ns}}));
  DEJA_TRY(recording->append({from, event::WallClock{began.unix_ns}}));
  DEJA_TRY(recording->append({from, first_digest}));
  EndInfo info;
  info.end = {event::EndReason::quit, 0, fmt::format("cut at step {}", to)};
  info.host_ns = began.since_start_ns;
  bool digest_at_end = false;
  for (u64 i = skipped; i < log.size(); ++i) {
    if (const auto* end = std::get_if<event::End>(&log[i].body)) {
      info.end = *end;
      break;
    }
    DEJA_TRY(recording->append(log[i]));
    const bool is_digest = std::holds_alternative<event::Digest>(log[i].body);
    digest_at_end = is_digest && log[i].step == to;
    if (const auto* progress = std::get_if<event::Progress>(&log[i].body)) info.host_ns = progress->host_ns;
  }
  if (!digest_at_end) DEJA_TRY(recording->append({to, digest_event(machine)}));
  info.final_step = to;
  info.instructions = replayer.instructions();
  info.virtual_ns = machine.now();
  DEJA_TRY(recording->finish(std::move(info)));
  cleanup.finished();
  return TrimReport{dir, kOpeningEvents + log.size() - skipped, checkpoints->taken(), checkpoints->bytes()};
}

}  // namespace deja
