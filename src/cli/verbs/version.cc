#include "cli/messages.h"
#include "cli/verbs/verbs.h"
#include "eventlog/manifest.h"
#include "machine/machine.h"
#include "replay/build_info.h"

namespace deja {

std::string version_text() {
  return show("deja {}, recording format {}, machine behaviour {}", build_version(), kRecordingFormatVersion,
              to_string(BehaviourRange()));
}

void add_version(Command& app, Action* action) {
  Command* verb =
      app.add_subcommand("version", "Print the version, and those of recordings that it can replay");
  verb->final_callback([action] {
    *action = []() -> Result<int> {
      say("{}\n", version_text());
      return kExitOk;
    };
  });
}

}  // namespace deja
