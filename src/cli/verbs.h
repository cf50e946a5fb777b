// The verbs of the command line, one file each. A verb adds its subcommand with its own help and sets `run`,
// which is called once the whole line was understood and returns the exit status.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

namespace deja {

// Exit statuses. A guest that ends through the debug-exit port sets its own. Damaged: done, but the recording
// is damaged, and what was done concerns its intact part.
inline constexpr int kExitOk = 0, kExitError = 1, kExitUsage = 2, kExitDamaged = 3;

std::string version_text();  // of deja, and of what it writes and replays

using Action = std::function<int()>;

void add_run(CLI::App& app, Action* action);
void add_record(CLI::App& app, Action* action);
void add_replay(CLI::App& app, Action* action);
void add_verify(CLI::App& app, Action* action);
void add_info(CLI::App& app, Action* action);
void add_ls(CLI::App& app, Action* action);
void add_rm(CLI::App& app, Action* action);
void add_dump(CLI::App& app, Action* action);
void add_live(CLI::App& app, Action* action);
void add_pack(CLI::App& app, Action* action);
void add_unpack(CLI::App& app, Action* action);
void add_trim(CLI::App& app, Action* action);
void add_screenshot(CLI::App& app, Action* action);
void add_index(CLI::App& app, Action* action);
void add_bisect(CLI::App& app, Action* action);
void add_stats(CLI::App& app, Action* action);
void add_debug(CLI::App& app, Action* action);
void add_who_wrote(CLI::App& app, Action* action);
void add_image(CLI::App& app, Action* action);
void add_export(CLI::App& app, Action* action);
void add_version(CLI::App& app, Action* action);
void add_help(CLI::App& app, Action* action);

}  // namespace deja
