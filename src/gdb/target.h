// What the gdb server debugs: vCPUs, memory, and time that runs in both directions. TimeTarget is the one
// there is; tests of the protocol bring their own.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "gdb/registers.h"

namespace deja {

struct GdbBreakpoint {
  u64 pc = 0;
  bool hardware = false;
  std::vector<std::string> conditions;  // agent expressions: it stops when there is none or one is true
  bool operator==(const GdbBreakpoint&) const = default;
};

struct GdbWatchpoint {
  enum class Kind : u8 { write = 2, read = 3, access = 4 } kind = Kind::write;  // as in Z packets
  u64 address = 0, size = 0;
  bool physical = false;
  bool operator==(const GdbWatchpoint&) const = default;
};

struct GdbResume {
  bool backward = false;
  enum class How : u8 {
    go,     // until something stops it
    step,   // one instruction of `vcpu`
    range,  // steps of `vcpu`, while its PC is in [from, to)
  } how = How::go;
  unsigned vcpu = 0;
  u64 from = 0, to = 0;
  std::vector<GdbBreakpoint> breakpoints;
  std::vector<GdbWatchpoint> watchpoints;
  unsigned watch_vcpu = 0;  // whose linear addresses new watchpoints have
  std::function<bool()> interrupted;
};

struct GdbStop {
  enum class Why : u8 {
    stepped,
    breakpoint,
    watchpoint,
    interrupted,
    history_begins,
    history_ends
  } why = Why::stepped;
  unsigned vcpu = 0;
  bool hardware = false;  // breakpoint
  GdbWatchpoint watchpoint;
  u64 accessed = 0;       // the first of its bytes that was
  std::string note = {};  // what to tell besides
};

// What gdb's `info os KIND` shows. Columns named as those of gdb's own are understood by front ends.
struct GdbOsTable {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;
};

class DebugTarget {
 public:
  virtual ~DebugTarget() = default;
  virtual unsigned vcpu_count() = 0;
  // Whom the present is about: who was stopped, or whose instruction comes next.
  virtual unsigned current_vcpu() = 0;
  virtual GdbCpu cpu(unsigned vcpu) = 0;
  virtual std::string describe_vcpu(unsigned vcpu) = 0;
  // How many of the bytes from `address` on, as that vCPU sees them, can be read; these are in `out`.
  virtual std::size_t read_memory(unsigned vcpu, bool physical, u64 address, void* out, std::size_t size) = 0;
  virtual Result<GdbStop> resume(const GdbResume& request) = 0;
  // Back to where the recording begins.
  virtual Status restart() = 0;
  // A table of the operating system that runs in the machine; an error says why that is not known.
  virtual Result<GdbOsTable> os_table(std::string_view kind) = 0;
  // gdb's `monitor TEXT`; gives what to show.
  virtual Result<std::string> command(const std::string& text, unsigned vcpu,
                                      const std::function<bool()>& interrupted) = 0;
};

}  // namespace deja
