#include <cstdio>

#include "cli/engine_report.h"
#include "cli/messages.h"
#include "cli/options/moment.h"
#include "cli/verbs/verbs.h"
#include "inputs/output_stream.h"
#include "replay/position.h"
#include "replay/replay_session.h"
#include "timeline/position_finder.h"
#include "timeline/recorded_state.h"

namespace deja {
namespace {

// What the guest printed last need not have ended its line; ours starts a new one.
class LineKeeper final : public SerialOutput {
 public:
  void write(u8 port, std::string_view bytes) override {
    if (port == 0 && !bytes.empty()) mid_line_ = bytes.back() != '\n';
    out_.write(port, bytes);
  }
  bool backlogged() const override { return out_.backlogged(); }
  Status drain(u64 timeout_ns) override { return out_.drain(timeout_ns); }
  bool mid_line() const { return mid_line_; }

 private:
  FdSerialOutput out_{1};
  bool mid_line_ = false;
};

// Scripts read this line.
Result<int> print_digest(const std::filesystem::path& dir, const EngineOptions& engine,
                         const std::string& to) {
  DEJA_ASSIGN(auto navigator, open_recording(dir, engine));
  Navigator& nav = *navigator;
  DEJA_ASSIGN(auto step, go_to(nav, to));
  MachineDigest d = nav.machine().digest();
  d.ram = nav.machine().ram().digest_from_scratch();  // proof, not what the checkpoint is said to add up to
  DEJA_TRY(nav.load_all());
  say("step {} digest cpu {:016x} ram {:016x} devices {:016x}\n", step, d.cpu, d.ram, d.devices);
  return kExitOk;
}

}  // namespace

void add_replay(Command& app, Action* action) {
  struct Options {
    EngineArguments engine;
    std::string recording, to;
    bool quiet = false, realtime = false, digest = false;
  };
  auto o = std::make_shared<Options>();
  Command* verb = app.add_subcommand("replay", "Reproduce a recorded run, and check it against its digests");
  verb->footer(
      "Examples:\n"
      "  deja replay latest\n"
      "  deja replay --realtime crash\n"
      "  deja replay --to 50% --quiet crash\n"
      "  deja replay --to 3,214,567,890 --digest crash\n"
      "Ends with a line such as: replayed 3,214,567,890 instructions in 4.1 s, 33 digests, identical");
  verb->add_option("REC", o->recording, "name or path of a recording, or `latest`")->required();
  verb->add_option(
      "--to", o->to,
      "stop there: a step number, N%, start, end, +2s, a date, serial:\"text\", mark:NAME, panic, event:N");
  verb->add_flag("--digest", o->digest,
                 "only print the digest of the machine there (goes there from the nearest checkpoint)");
  verb->add_flag("--quiet", o->quiet, "do not show the guest's serial output");
  verb->add_flag("--realtime", o->realtime,
                 "at the pace of the guest's clock, instead of as fast as possible");
  o->engine.add_to(*verb);
  verb->final_callback([o, action] {
    *action = [o]() -> Result<int> {
      RealHostClock clock;
      ReplayRequest request;
      DEJA_ASSIGN(auto engine, o->engine.apply());
      DEJA_ASSIGN(auto dir, resolve_recording(o->recording));
      if (o->digest) return print_digest(dir, engine, o->to.empty() ? "end" : o->to);
      request = {dir, engine, o->to, o->realtime, {}};
      request.compare = [&](const Divergence& d, Machine& m) { return differences_from_recorded(dir, d, m); };
      LineKeeper console;  // before a guest runs, while standard output can be opened once more
      if (!o->to.empty()) {
        DEJA_ASSIGN(auto to, find_position(dir, engine, o->to));
        request.to = std::to_string(to);
      }
      NullSerialOutput nowhere;
      SerialOutput& output = o->quiet ? static_cast<SerialOutput&>(nowhere) : console;
      DEJA_ASSIGN(auto report, run_replay(request, output, clock));
      if (console.mid_line()) say("\n");
      std::fflush(stdout);
      if (!report.note.empty()) note("{}", report.note);
      note_damage(report.damage);
      if (o->engine.stats)
        tell("{}", Lines{engine_text({report.counters, report.instructions, report.host_ns})});
      if (report.divergence) {
        tell("{}", Lines{report.divergence_report});
        say("replayed {} instructions in {}, DIVERGED at step {}\n", format_count(report.instructions),
            seconds(report.host_ns), format_count(report.divergence->step));
        return kExitError;
      }
      say("replayed {} instructions in {}, {}\n", format_count(report.instructions), seconds(report.host_ns),
          report.digests ? counted(report.digests, "digest") + ", identical"
                         : "no digest on the way: nothing was compared");
      return kExitOk;
    };
  });
}

}  // namespace deja
