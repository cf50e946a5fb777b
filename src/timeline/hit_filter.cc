#include "timeline/hit_filter.h"

namespace deja {

Result<HitTest> make_test(const HitFilter& filter) {
  if (filter.kind.empty()) return HitTest([](Machine&, const Hit&) { return true; });
  const HitFilterKind* const kind = HitFilterKind::find(filter.kind);
  if (!kind) return make_error("hits of the kind '{}' are not known to this program", filter.kind);
  return kind->make()(filter.parameters);
}

}  // namespace deja
