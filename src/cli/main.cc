// The command line: `deja VERB …`.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "base/host_limits.h"
#include "cli/messages.h"
#include "cli/options/arguments.h"
#include "cli/options/command.h"
#include "cli/verbs/verbs.h"
#include "sandbox/sandbox.h"

namespace deja {
namespace {

int run(int argc, char** argv) {
  Command app("DejaVM: records everything that a virtual machine does, and reproduces it exactly.", "deja");
  app.require_subcommand();
  app.set_version_flag("--version", version_text());
  Action action;
  for (const auto add :
       {add_run,   add_record, add_replay,    add_verify,  add_info, add_ls,        add_rm,   add_dump,
        add_index, add_export, add_image,     add_live,    add_pack, add_unpack,    add_trim, add_bisect,
        add_stats, add_debug,  add_who_wrote, add_version, add_help, add_screenshot})
    add(app, &action);

  std::vector<std::string> notes;
  Result<std::vector<std::string>> arguments =
      from_qemu_spelling({argv + 1, argv + argc}, app.options_with_values(), &notes);
  if (!arguments) {
    fail(arguments.error());
    return kExitUsage;
  }
  if (const std::optional<int> status = app.parse(std::move(*arguments))) return *status;
  for (const std::string& text : notes) note("{}", text);
  const Result<int> status = action();
  return status ? exit_status(status.value()) : fail(status.error());
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
