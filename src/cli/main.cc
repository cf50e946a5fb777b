// The command line: `deja VERB …`.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>

#include "base/host_limits.h"
#include "cli/arguments.h"
#include "cli/messages.h"
#include "cli/verbs.h"
#include "sandbox/sandbox.h"

namespace deja {
namespace {

int run(int argc, char** argv) {
  CLI::App app("DejaVM: records everything that a virtual machine does, and reproduces it exactly.", "deja");
  app.require_subcommand(1);
  app.set_version_flag("--version", version_text());
  Action action;
  for (const auto add :
       {add_run,   add_record, add_replay,    add_verify,  add_info, add_ls,        add_rm,   add_dump,
        add_index, add_export, add_image,     add_live,    add_pack, add_unpack,    add_trim, add_bisect,
        add_stats, add_debug,  add_who_wrote, add_version, add_help, add_screenshot})
    add(app, &action);

  std::vector<std::string> notes;
  std::vector<std::string> arguments = from_qemu_spelling({argv + 1, argv + argc}, &notes);
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 wants them
  try {
    app.parse(arguments);
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    // A word that is not understood says more than what is missing in its place.
    const std::vector<std::string> unknown = app.remaining(true);
    if (unknown.empty())
      note("{}", error.what());
    else
      note("'{}' is not understood here", unknown.front());
    note("`deja help` lists the verbs, `deja VERB --help` explains a verb's options");
    return kExitUsage;
  }
  for (const std::string& text : notes) note("{}", text);
  return exit_status(action());
}

// Where an exception cannot be caught, since translated code is what called: memory is used up is no bug.
[[noreturn]] void end_without_memory() {
  run_crash_hooks();
  try {
    if (const std::exception_ptr now = std::current_exception()) std::rethrow_exception(now);
  } catch (const std::bad_alloc&) {
    note("{}", out_of_memory("memory is used up; the recording up to the last flush is intact"));
    std::_Exit(kExitError);
  } catch (const std::exception& error) {
    note("{}", error.what());
  } catch (...) {
  }
  std::abort();
}

}  // namespace
}  // namespace deja

int main(int argc, char** argv) {
  if (const deja::Status status = deja::open_standard_descriptors(); !status)
    return deja::fail(status.error());
  deja::sandbox::note_inherited_descriptors();
  if (const deja::Status status = deja::use_host_limits(); !status) return deja::fail(status.error());
  std::set_terminate(deja::end_without_memory);
  try {
    return deja::run(argc, argv);
  } catch (const std::bad_alloc&) {
    deja::note("{}", deja::out_of_memory("memory is used up"));
  } catch (const std::exception& error) {
    deja::note("{}", error.what());
  }
  return deja::kExitError;
}
