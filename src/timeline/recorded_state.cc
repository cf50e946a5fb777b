#include "timeline/recorded_state.h"

#include "base/printable.h"
#include "replay/machine_report.h"
#include "timeline/navigator.h"

namespace deja {
namespace {

constexpr unsigned kDifferences = 8;  // shown, of each sort

}  // namespace

std::string differences_from_recorded(const std::filesystem::path& dir, const Divergence& divergence,
                                      Machine& replayed) {
  auto recorded = Navigator::open(dir, {});
  if (!recorded) return show("The recorder's state cannot be shown: {}\n", recorded.error().message);
  auto there = (*recorded)->go_to_checkpoint(divergence.step);
  if (!there) return show("The recorder's state cannot be shown: {}\n", there.error().message);
  if (!*there)
    return show(
        "Of the recorder's state there only the digest is known, since no checkpoint was taken at step {}.\n",
        format_count(divergence.step));
  const std::string text = describe_differences((*recorded)->machine(), replayed, kDifferences);
  return show("What differs, as recorded first:\n{}",
              Lines{text.empty() ? "  nothing that is shown here: disks, or the digest itself\n" : text});
}

}  // namespace deja
