#include <cstdio>

#include "cli/messages.h"
#include "cli/moment.h"
#include "cli/verbs.h"
#include "gdb/fd_connection.h"
#include "gdb/launch.h"
#include "gdb/symbol_setup.h"
#include "gdb/time_target.h"
#include "timeline/position_finder.h"

namespace deja {
namespace {

struct Options {
  EngineArguments engine;
  std::string recording, at = "start", gdb = "gdb";
  std::vector<std::string> symbols, arguments;
  CLI::Option* port_option = nullptr;
  u16 port = 0;
  CLI::Option* process_option = nullptr;
  u32 process = 0;
  bool print_commands = false;
};

int serve(TimeTarget& target, TcpListener& listener) {
  note("waiting for gdb: target extended-remote localhost:{}", listener.port());
  auto fd = listener.accept();
  if (!fd) return fail(fd.error());
  FdConnection connection(*fd);
  GdbServer(target, connection, [](std::string_view text) { note("{}", text); }).serve();
  return kExitOk;
}

int debug(const Options& o) {
  if (o.print_commands) {
    put(Channel::output, gdb_commands());
    return kExitOk;
  }
  if (o.recording.empty()) return fail(make_error("debug: which recording? a name, a path, or `latest`"));
  // gdb, or the port for it, is there before the guest runs for the first time, after which no other process
  // is started.
  std::optional<TcpListener> listener;
  std::unique_ptr<GdbProcess> gdb;
  if (o.port_option->count()) {
    auto made = TcpListener::create(o.port);
    if (!made) return fail(made.error());
    listener.emplace(std::move(made).value());
  } else {
    auto made = GdbProcess::prepare(o.gdb, o.arguments);
    if (!made) return fail(made.error());
    gdb = std::move(made).value();
  }
  allow_symbols(o.symbols);
  auto engine = o.engine.apply();
  if (!engine) return fail(engine.error());
  auto dir = resolve_recording(o.recording);
  if (!dir) return fail(dir.error());
  SearchWorkers::prepare();
  auto nav = open_recording(*dir, *engine);
  if (!nav) return fail(nav.error());
  auto at = find_position(**nav, o.at);
  if (!at) return fail(at.error());
  auto symbols = SymbolSetup::make(**nav, o.symbols);
  if (!symbols) return fail(symbols.error());
  SearchWorkers workers(**nav, *engine);
  TimeTarget target(**nav, &workers);
  target.set_kernel(symbols->kernel_banner());
  if (Status status = target.seek(*at); !status) return fail(status.error());
  if (o.process_option->count())
    if (auto limited = target.limit_to_process(o.process); !limited) return fail(limited.error());
  if (listener) return serve(target, *listener);
  GdbLaunch launch;
  launch.setup = symbols->gdb_commands();
  launch.kernel_elf = symbols->kernel_elf();
  launch.kernel_slide = symbols->kernel_slide();
  auto status = gdb->run(target, launch);
  return status ? *status : fail(status.error());
}

}  // namespace

void add_debug(CLI::App& app, Action* action) {
  auto o = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("debug", "Debug a recording with gdb, forward and backward");
  verb->footer(
      "Examples:\n"
      "  deja debug crash                        gdb at the start; `reverse-continue` and kin work\n"
      "  deja debug --at end crash\n"
      "  deja debug crash -- -batch -x SCRIPT    what follows -- is for gdb\n"
      "  deja debug --at end -p 214 crash        breakpoints in programs are for process 214\n"
      "  deja debug -s 1234 crash                for a gdb of your own: target extended-remote "
      "localhost:1234\n"
      "In gdb: when, seek, checkpoint, restart, who-wrote, insn. docs/debugging.md goes through a session.");
  verb->add_option("REC", o->recording, "name or path of a recording, or `latest`");
  verb->add_option("--at", o->at, "where to begin: docs/time-travel.md has all forms")->capture_default_str();
  o->port_option =
      verb->add_option("-s,--serve", o->port, "serve a gdb that connects to this port of localhost");
  o->process_option = verb->add_option("-p,--process", o->process,
                                       "breakpoints in programs stop only in the process with this PID")
                          ->type_name("PID");
  verb->add_option(
          "--symbols", o->symbols,
          "a file with symbols, or a directory of such: the kernel's vmlinux and programs, known by their "
          "build-ids")
      ->type_name("PATH")
      ->allow_extra_args(false);
  verb->add_option("--gdb", o->gdb, "the gdb to start")->capture_default_str();
  verb->add_flag("--print-commands", o->print_commands, "print the Python that a remote gdb may `source`");
  verb->add_option("GDB-ARGUMENTS", o->arguments, "after --: what gdb is given");
  o->engine.add_to(*verb);
  verb->final_callback([o, action] { *action = [o] { return debug(*o); }; });
}

}  // namespace deja
