#include <cstdio>

#include "cli/messages.h"
#include "cli/options/moment.h"
#include "cli/verbs/verbs.h"
#include "gdb/fd_connection.h"
#include "gdb/launch.h"
#include "gdb/symbol_commands.h"
#include "gdb/time_target.h"
#include "timeline/position_finder.h"

namespace deja {
namespace {

struct Options {
  EngineArguments engine;
  std::string recording, at = "start", gdb = "gdb";
  std::vector<std::string> symbols, arguments;
  CommandOption* port_option = nullptr;
  u16 port = 0;
  CommandOption* process_option = nullptr;
  u32 process = 0;
  bool print_commands = false;
};

Result<int> serve(TimeTarget& target, TcpListener& listener) {
  note("waiting for gdb: target extended-remote localhost:{}", listener.port());
  DEJA_ASSIGN(auto fd, listener.accept());
  FdConnection connection(fd);
  GdbServer(target, connection, [](std::string_view text) { note("{}", text); }).serve();
  return kExitOk;
}

Result<int> debug(const Options& o) {
  if (o.print_commands) {
    put(Channel::output, gdb_commands());
    return kExitOk;
  }
  if (o.recording.empty()) return make_error("debug: which recording? a name, a path, or `latest`");
  // gdb, or the port for it, is there before the guest runs for the first time, after which no other process
  // is started.
  std::optional<TcpListener> listener;
  std::unique_ptr<GdbProcess> gdb;
  if (o.port_option->count()) {
    DEJA_ASSIGN(TcpListener made, TcpListener::create(o.port));
    listener.emplace(std::move(made));
  } else {
    DEJA_ASSIGN(gdb, GdbProcess::prepare(o.gdb, o.arguments));
  }
  allow_symbols(o.symbols);
  DEJA_ASSIGN(auto engine, o.engine.apply());
  DEJA_ASSIGN(auto dir, resolve_recording(o.recording));
  SearchWorkers::prepare();
  DEJA_ASSIGN(auto nav, open_recording(dir, engine));
  DEJA_ASSIGN(auto at, find_position(*nav, o.at));
  DEJA_ASSIGN(auto symbols, GuestSymbols::make(*nav, o.symbols));
  SearchWorkers workers(*nav, engine);
  TimeTarget target(*nav, &workers);
  target.set_kernel(symbols.kernel_banner());
  DEJA_TRY(target.seek(at));
  if (o.process_option->count()) DEJA_TRY(target.limit_to_process(o.process));
  if (listener) return serve(target, *listener);
  GdbLaunch launch;
  launch.setup = symbol_commands(symbols);
  launch.kernel_elf = symbols.kernel_elf();
  launch.kernel_slide = symbols.kernel_slide();
  return gdb->run(target, launch);
}

}  // namespace

void add_debug(Command& app, Action* action) {
  auto o = std::make_shared<Options>();
  Command* verb = app.add_subcommand("debug", "Debug a recording with gdb, forward and backward");
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
      ->type_name("PATH");
  verb->add_option("--gdb", o->gdb, "the gdb to start")->capture_default_str();
  verb->add_flag("--print-commands", o->print_commands, "print the Python that a remote gdb may `source`");
  verb->add_option("GDB-ARGUMENTS", o->arguments, "after --: what gdb is given");
  o->engine.add_to(*verb);
  verb->final_callback([o, action] { *action = [o]() -> Result<int> { return debug(*o); }; });
}

}  // namespace deja
