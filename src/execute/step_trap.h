// The single-step trap (SDM vol. 3B 17.3.1.4): RFLAGS.TF set when an instruction begins makes a debug
// exception come when it has completed.
#pragma once

#include "decode/insn.h"
#include "guest/cpu_state.h"

namespace deja {

class StepTrap {
 public:
  // An instruction begins that is a block of its own.
  void begin(const CpuState& s) { due_ = s.rflags & flag::TF, falls_through_ = false; }
  bool due() const { return due_; }
  // With IA32_DEBUGCTL.BTF only taken branches trap (SDM vol. 3B 17.4.3).
  static bool wants_branches(const CpuState& s);
  // What has begun is `insn`, at s.rip: going on to the next instruction, or to the next iteration of a REP,
  // is no taken branch.
  void only_branches(const CpuState& s, const Insn& insn);
  // The instruction traps by the TF that it leaves.
  void take_new_flags(const CpuState& s) {
    if (!due_) falls_through_ = false;
    due_ = s.rflags & flag::TF;
  }
  // It did not complete.
  void cancel() { due_ = false; }
  // It has: leaves its trap in pending_dbg.
  void finish(CpuState& s) {
    if (due_) note_trap(s);
    due_ = false;
  }

 private:
  void note_trap(CpuState& s) const;

  bool due_ = false;
  bool falls_through_ = false;  // and with it going on at one of these is no trap
  u64 self_ = 0, next_ = 0;     // RIP
};

}  // namespace deja
