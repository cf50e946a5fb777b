#include "timeline/work.h"

#include "base/printable.h"
#include "replay/position.h"

namespace deja {
namespace {

constexpr u32 kVersion = 1;

}  // namespace

template <class A>
void serialize(A& a, Work& w) {
  text_field(a, w.kind);
  a.field(w.interval.from);
  a.field(w.interval.to);
  a.vector(w.parameters);
}

ValueBytes bytes_of(const Work& work) { return to_bytes(kVersion, work); }

Result<Work> work_from_bytes(const ValueBytes& bytes) { return from_bytes<Work>(kVersion, "work", bytes); }

Result<std::optional<ValueBytes>> run_work(const WorkPlace& place, const Work& work,
                                           const Interrupted& interrupted) {
  const WorkKind* const kind = WorkKind::find(work.kind);
  if (!kind) return make_error("work of the kind '{}' is not known to this program", work.kind);
  const auto [from, to] = work.interval;
  if (from > to || from < place.nav.first() || to > place.nav.last())
    return make_error("work of steps {} to {}: {} has {} to {}", format_count(from), format_count(to),
                      place.nav.dir().string(), format_count(place.nav.first()),
                      format_count(place.nav.last()));
  return kind->functions().run(place, work, interrupted);
}

}  // namespace deja
