// Work on an interval of a recording, as a value: what is asked, of which steps, with what parameters.
// Whoever has the recording can do it, in this process or another, and gives bytes back; what several gave is
// merged.
//
//   const WorkKind kCountInterrupts{"count-interrupts", {run, merge, ends}};   // beside the code that asks
//   Work work{"count-interrupts", {0, 1'000'000}, {}};
//   DEJA_ASSIGN(Work same, work_from_bytes(bytes_of(work)));                   // elsewhere
//   DEJA_ASSIGN(auto result, run_work({*nav}, same, interrupted));
//
// Nobody need do these by hand: WorkQueue hands work out and merges results.
#pragma once

#include <functional>
#include <optional>
#include <string>

#include "timeline/named.h"
#include "timeline/navigator.h"
#include "timeline/value_codec.h"

namespace deja {

struct Interval {
  Step from = 0, to = 0;
  bool operator==(const Interval&) const = default;
};

struct Work {
  std::string kind;  // a WorkKind's
  Interval interval;
  ValueBytes parameters;
};
ValueBytes bytes_of(const Work& work);
Result<Work> work_from_bytes(const ValueBytes& bytes);

// The machine that does it.
struct WorkPlace {
  Navigator& nav;
  // It goes on with what was found: snapshots that are taken on the way will be of use.
  bool asks = false;
};

using Interrupted = std::function<bool()>;  // empty: never

// A result is a function of the recording and the work, whoever does it; it begins with a version.
class WorkKind : public Named<WorkKind> {
 public:
  struct Functions {
    // nullopt: `interrupted` said so. An error: this machine does not get there.
    Result<std::optional<ValueBytes>> (*run)(const WorkPlace& place, const Work& work,
                                             const Interrupted& interrupted);
    // Adds the result of what comes next in the order of the question. Associative.
    Status (*merge)(ValueBytes* result, const ValueBytes& next);
    // Whether nothing that comes behind it in the order of the question matters any more.
    bool (*ends)(const ValueBytes& result);
  };
  WorkKind(std::string_view name, const Functions& functions) : Named(name), functions_(functions) {}
  const Functions& functions() const { return functions_; }

 private:
  const Functions functions_;
};

// An error also when this program has no such kind.
Result<std::optional<ValueBytes>> run_work(const WorkPlace& place, const Work& work,
                                           const Interrupted& interrupted = {});

}  // namespace deja
