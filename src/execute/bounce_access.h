// The memory operand that an instruction has in the bounce buffer (ExecContext::bounce), from
// Engine::mem_slow to Engine::mem_commit.
#pragma once

#include <optional>
#include <span>
#include <utility>

#include "guest/cpu_state.h"
#include "guest/fault.h"
#include "semantics/fpu/fpu_state.h"

namespace deja {

class BounceAccess {
 public:
  // Where the operand stands: in one page or in two.
  struct Part {
    Gpa at;
    unsigned size = 0;
  };
  void begin() { count_ = 0; }
  void add(Gpa at, unsigned size) { parts_[count_++] = {at, size}; }
  std::span<const Part> parts() const { return {parts_, count_}; }

  // A store whose address faults, by an instruction that first raises exceptions of its own: with an unmasked
  // one, x87 stores do not touch memory at all. It is tried on the bounce buffer, with no place to go, before
  // the fault is raised.
  void try_before(const GuestFault& fault) {
    begin();
    deferred_ = fault;
    host_x87_save(x87_before_);
  }
  std::optional<GuestFault> take_deferred() { return std::exchange(deferred_, std::nullopt); }
  // The instruction raised an exception of its own.
  void forget_deferred() { deferred_.reset(); }
  // As try_before() found it.
  void restore_x87() const { host_x87_load(x87_before_); }

 private:
  Part parts_[2];
  unsigned count_ = 0;
  std::optional<GuestFault> deferred_;
  FpuState x87_before_;
};

}  // namespace deja
