// A recording as gdb's target: its machine, brought to any step by a Navigator.
#pragma once

#include "gdb/stop_conditions.h"
#include "gdb/target.h"
#include "linux/kernel_place.h"
#include "linux/recorded_linux.h"
#include "query/who_wrote.h"
#include "timeline/navigator.h"

namespace deja {

class TimeTarget final : public DebugTarget {
 public:
  // Both outlive it. `workers`: for long searches; null: there are none.
  explicit TimeTarget(Navigator& nav, SearchWorkers* workers = nullptr)
      : nav_(nav), workers_(workers), linux_(nav) {
    arrive();
  }

  unsigned vcpu_count() override { return machine().vcpu_count(); }
  unsigned current_vcpu() override { return current_; }
  GdbCpu cpu(unsigned vcpu) override;
  std::string describe_vcpu(unsigned vcpu) override;
  std::size_t read_memory(unsigned vcpu, bool physical, u64 address, void* out, std::size_t size) override;
  Result<GdbStop> resume(const GdbResume& request) override;
  Result<GdbOsTable> os_table(std::string_view kind) override;
  Status restart() override { return seek(nav_.first()); }
  Result<std::string> command(const std::string& text, unsigned vcpu,
                              const std::function<bool()>& interrupted) override;

  Status seek(Step to);
  // From here on breakpoints in programs stop only in the process or thread with this PID, as of now. Says
  // what that means.
  Result<std::string> limit_to_process(u32 pid);
  // What `monitor kernel` looks for.
  void set_kernel(std::optional<KernelBanner> banner) { kernel_ = std::move(banner); }

 private:
  // What resume() looks for, in the engine's words.
  struct Wanted {
    ObservationSpec spec;
    const GdbResume* request;
    std::vector<std::size_t> watch_of;  // by index in spec.watchpoints: in request->watchpoints
  };
  using Judge = std::function<std::optional<GdbStop>(const Hit&)>;

  Machine& machine() { return nav_.machine(); }
  GuestView view(unsigned vcpu, bool physical = false);
  void arrive();  // somewhere else than before: whose turn is it?
  void take_conditions(const GdbResume& request);
  Wanted wanted(const GdbResume& request) const;
  // The stop that a hit is, if its conditions hold.
  std::optional<GdbStop> judge(const Wanted& w, const Hit& hit);
  GdbStop stop_of(const Wanted& w, const Hit& hit);

  // Forward to `limit`, nothing, or to the first hit that `judge` makes a stop of.
  Result<std::optional<GdbStop>> run(const Wanted& w, Step limit, const Judge& judge);
  Result<std::optional<GdbStop>> run(const Wanted& w, Step limit);
  Result<GdbStop> go(const Wanted& w);
  // One instruction of `vcpu`; a stop: something else was first.
  Result<std::optional<GdbStop>> step(const Wanted& w, unsigned vcpu);
  Result<std::optional<GdbStop>> return_from_handler(const Wanted& w, unsigned vcpu,
                                                     const CpuState& interrupted);
  Result<GdbStop> step_range(const Wanted& w);
  Result<GdbStop> go_back(const Wanted& w);
  Result<GdbStop> step_back(const Wanted& w, unsigned vcpu);
  Result<std::optional<Step>> last_step_of(unsigned vcpu, Step before,
                                           const std::function<bool()>& interrupted);
  Result<std::optional<Step>> interruption_before(const Wanted& w, unsigned vcpu, const CpuState& resumed,
                                                  Step iret);
  GdbStop stop(GdbStop::Why why, unsigned vcpu);

  // What a `monitor` command is given.
  struct Command {
    std::string text;                // all of it
    std::vector<std::string> words;  // its name, and what follows
    unsigned vcpu;
    const std::function<bool()>& interrupted;

    std::string_view argument() const { return words.size() > 1 ? std::string_view(words[1]) : ""; }
  };
  using Answer = Result<std::string> (TimeTarget::*)(const Command&);
  static Answer find_command(std::string_view name);
  Result<std::string> help(const Command&);
  Result<std::string> when(const Command&);
  Result<std::string> seek_command(const Command& c);
  Result<std::string> checkpoint(const Command&);
  Result<std::string> checkpoints(const Command&);
  Result<std::string> restart_command(const Command& c);
  Result<std::string> who_wrote_command(const Command& c);
  Result<std::string> instructions(const Command& c);
  Result<std::string> images(const Command& c);
  Result<std::string> processes(const Command&);
  Result<std::string> modules(const Command& c);
  Result<std::string> kernel_log(const Command&);
  Result<std::string> kernel_place(const Command&);
  Result<std::string> process_command(const Command& c);
  Result<std::string> interrupts_command(const Command& c);

  Navigator& nav_;
  SearchWorkers* const workers_;
  unsigned current_ = 0;
  StopConditions conditions_;  // of the last resume()
  bool hide_interrupts_ = true;
  std::optional<u64> process_;  // CR3: breakpoints in the user half stop in this address space only
  std::vector<Step> bookmarks_;
  RecordedLinux linux_;
  std::optional<KernelBanner> kernel_;
};

}  // namespace deja
