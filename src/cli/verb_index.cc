#include "cli/checkpoint_interval.h"
#include "cli/engine_options.h"
#include "cli/messages.h"
#include "cli/progress_bar.h"
#include "cli/verbs.h"
#include "eventlog/recording_dir.h"
#include "replay/position.h"
#include "replay/record_session.h"
#include "sandbox/sandbox.h"
#include "timeline/index_recording.h"

namespace deja {

void add_index(CLI::App& app, Action* action) {
  struct Options {
    EngineArguments engine;
    std::string recording, every;
  };
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("index", "Make checkpoints, with which one gets to any moment quickly");
  verb->footer(
      "`deja record` makes them while it records; this replays the recording, and replaces what it has.\n"
      "Examples:\n"
      "  deja index latest\n"
      "  deja index --checkpoint-every 50M crash");
  verb->add_option("REC", o->recording, "name or path of a recording, or `latest`")->required();
  verb->add_option("--checkpoint-every", o->every, "steps between checkpoints, such as 50M [200M]");
  o->engine.add_to(*verb);
  verb->final_callback([o, action] {
    *action = [o] {
      auto engine = o->engine.apply();
      if (!engine) return fail(engine.error());
      auto dir = resolve_recording(o->recording);
      if (!dir) return fail(dir.error());
      IndexRequest request{*dir, *engine, kCheckpointInterval, {}};
      if (!o->every.empty()) {
        auto interval = parse_checkpoint_interval("--checkpoint-every", o->every);
        if (!interval) return fail(interval.error());
        if (*interval == 0) return fail(make_error("--checkpoint-every off: then there is nothing to do"));
        request.interval = *interval;
      }
      sandbox::allow_write(*dir);
      ProgressBar bar("index");
      request.progress = [&](Step done, Step all) { bar.update(done, all); };
      auto report = index_recording(request);
      bar.clear();
      if (!report) return fail(report.error());
      say("{} checkpoints of {} over {} steps\n", report->checkpoints, bytes(report->bytes),
          format_count(report->steps));
      return kExitOk;
    };
  });
}

}  // namespace deja
