#include "cli/messages.h"
#include "cli/verbs/verbs.h"
#include "eventlog/recording_dir.h"

namespace deja {

void add_ls(Command& app, Action* action) {
  auto dir = std::make_shared<std::string>();
  Command* verb = app.add_subcommand("ls", "List the recordings");
  verb->footer("Example:\n  deja ls");
  verb->add_option("DIR", *dir, "directory to look in [${XDG_DATA_HOME:-~/.local/share}/deja]");
  verb->final_callback([dir, action] {
    *action = [dir]() -> Result<int> {
      DEJA_ASSIGN(auto list,
                  list_recordings(dir->empty() ? std::nullopt : std::optional<std::filesystem::path>(*dir)));
      if (list.empty()) {
        note("there are no recordings yet; make one with `deja record`");
        return kExitOk;
      }
      std::size_t width = 4;
      for (const RecordingSummary& r : list) width = std::max(width, printable(r.name).size());
      say("{:<{}}  {:<23}  {:>10}  {:>10}  {}\n", "name", width, "made", "size", "guest time", "state");
      for (const RecordingSummary& r : list) {
        const bool ended = r.manifest && r.manifest->end;
        say("{:<{}}  {:<23}  {:>10}  {:>10}  {}\n", r.name, width,
            r.manifest ? format_date(r.manifest->created_unix_ns) : "?", bytes(r.bytes),
            ended ? seconds(r.manifest->end->virtual_ns) : "",
            !r.problem.empty() ? "damaged: " + r.problem
            : ended            ? std::string(to_string(r.manifest->end->end.reason))
                               : std::string(to_string(r.state)));
      }
      return kExitOk;
    };
  });
}

}  // namespace deja
