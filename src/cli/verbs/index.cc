#include "cli/messages.h"
#include "cli/options/checkpoint_interval.h"
#include "cli/options/engine_options.h"
#include "cli/progress_bar.h"
#include "cli/verbs/verbs.h"
#include "eventlog/recording_dir.h"
#include "replay/position.h"
#include "replay/record_session.h"
#include "sandbox/sandbox.h"
#include "timeline/index_recording.h"

namespace deja {

void add_index(Command& app, Action* action) {
  struct Options {
    EngineArguments engine;
    std::string recording, every;
  };
  auto o = std::make_shared<Options>();
  Command* verb = app.add_subcommand("index", "Make checkpoints, with which one gets to any moment quickly");
  verb->footer(
      "`deja record` makes them while it records; this replays the recording, and replaces what it has.\n"
      "Examples:\n"
      "  deja index latest\n"
      "  deja index --checkpoint-every 50M crash");
  verb->add_option("REC", o->recording, "name or path of a recording, or `latest`")->required();
  verb->add_option("--checkpoint-every", o->every, "steps between checkpoints, such as 50M [200M]");
  o->engine.add_to(*verb);
  verb->final_callback([o, action] {
    *action = [o]() -> Result<int> {
      DEJA_ASSIGN(auto engine, o->engine.apply());
      DEJA_ASSIGN(auto dir, resolve_recording(o->recording));
      IndexRequest request{dir, engine, kCheckpointInterval, {}};
      if (!o->every.empty()) {
        DEJA_ASSIGN(auto interval, parse_checkpoint_interval("--checkpoint-every", o->every));
        if (interval == 0) return make_error("--checkpoint-every off: then there is nothing to do");
        request.interval = interval;
      }
      sandbox::allow_write(dir);
      ProgressBar bar("index");
      request.progress = [&](Step done, Step all) { bar.update(done, all); };
      auto report = index_recording(request);
      bar.clear();
      if (!report) return report.error();
      say("{} of {} over {} steps\n", counted(report->checkpoints, "checkpoint"), bytes(report->bytes),
          format_count(report->steps));
      return kExitOk;
    };
  });
}

}  // namespace deja
