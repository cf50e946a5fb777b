#include "cli/messages.h"
#include "cli/verbs/verbs.h"
#include "eventlog/recording_dir.h"

namespace deja {

void add_rm(Command& app, Action* action) {
  auto names = std::make_shared<std::vector<std::string>>();
  Command* verb = app.add_subcommand("rm", "Remove recordings");
  verb->footer("Example:\n  deja rm crash");
  verb->add_option("REC", *names, "names or paths of recordings, or `latest`")->required();
  verb->final_callback([names, action] {
    *action = [names]() -> Result<int> {
      int status = kExitOk;
      for (const std::string& name : *names) {
        auto dir = resolve_recording(name);
        if (!dir) {
          status = fail(dir.error());
        } else if (Status removed = remove_recording(*dir); !removed) {
          status = fail(removed.error());
        }
      }
      return status;
    };
  });
}

}  // namespace deja
