// The verbs of the command line, one file each. A verb adds its subcommand with its own help and sets `run`,
// which is called once the whole line was understood and returns the exit status. main() prints its error.
#pragma once

#include <functional>
#include <string>

#include "base/result.h"
#include "cli/options/command.h"

namespace deja {

// Exit statuses. A guest that ends through the debug-exit port sets its own. kExitDamaged: the verb is done,
// but the recording is damaged, and its intact part alone was used.
inline constexpr int kExitOk = 0, kExitError = 1, kExitUsage = 2, kExitDamaged = 3;

std::string version_text();  // deja's version, and those of what it writes and replays

using Action = std::function<Result<int>()>;

void add_run(Command& app, Action* action);
void add_record(Command& app, Action* action);
void add_replay(Command& app, Action* action);
void add_verify(Command& app, Action* action);
void add_info(Command& app, Action* action);
void add_ls(Command& app, Action* action);
void add_rm(Command& app, Action* action);
void add_dump(Command& app, Action* action);
void add_live(Command& app, Action* action);
void add_pack(Command& app, Action* action);
void add_unpack(Command& app, Action* action);
void add_trim(Command& app, Action* action);
void add_screenshot(Command& app, Action* action);
void add_index(Command& app, Action* action);
void add_bisect(Command& app, Action* action);
void add_stats(Command& app, Action* action);
void add_debug(Command& app, Action* action);
void add_who_wrote(Command& app, Action* action);
void add_image(Command& app, Action* action);
void add_export(Command& app, Action* action);
void add_version(Command& app, Action* action);
void add_help(Command& app, Action* action);

}  // namespace deja
