#include "execute/observation.h"

#include <algorithm>
#include <cstring>

namespace deja {
namespace {

void sort_unique(auto& v) {
  std::sort(v.begin(), v.end());
  v.erase(std::unique(v.begin(), v.end()), v.end());
}

bool same_table(const std::optional<u64>& wanted, u64 cr3) {
  return !wanted || (*wanted ^ cr3) >> kPageShift == 0;
}

}  // namespace

void Observation::set(ObservationSpec spec) {
  const bool same_watchpoints = spec.watchpoints == spec_.watchpoints;
  spec_ = std::move(spec);
  hits_.clear();
  break_pages_.clear();
  cuts_.clear();
  for (const CodeBreakpoint& b : spec_.breakpoints) {
    break_pages_.push_back(b.pc >> kPageShift);
    cuts_.push_back(static_cast<u16>(Gva(b.pc).offset()));
  }
  sort_unique(break_pages_);
  sort_unique(cuts_);
  if (!same_watchpoints) lay_out_ranges();
  for (Range& r : ranges_) look_at(r);
  flag_pages();
}

void Observation::lay_out_ranges() {
  ranges_.clear();
  follows_linear_ = false;
  for (unsigned i = 0; i < spec_.watchpoints.size(); ++i) {
    const Watchpoint& w = spec_.watchpoints[i];
    follows_linear_ |= !w.physical;
    for (u64 done = 0; done < w.size;) {
      const u64 at = w.address + done;
      const u64 size = std::min(w.size - done, kPageSize - at % kPageSize);
      Range r{i, Gva(at), {}, size, {}};
      if (w.physical && ram_.contains(Gpa(at))) r.at = Gpa(at);
      if (r.at || !w.physical) ranges_.push_back(std::move(r));
      done += size;
    }
  }
}

void Observation::look_at(Range& r) const {
  if (!r.at) return;
  r.bytes.resize(r.size);
  std::memcpy(r.bytes.data(), ram_.host(*r.at), r.size);
}

void Observation::flag_pages() {
  for (const u64 frame : flagged_)
    ram_.flags(frame) &= static_cast<u8>(~(GuestRam::kWatched | GuestRam::kReadWatched));
  flagged_.clear();
  for (const Range& r : ranges_) {
    if (!r.at) continue;
    const bool reads = spec_.watchpoints[r.index].kinds & Watchpoint::kRead;
    ram_.flags(r.at->frame()) |= static_cast<u8>(GuestRam::kWatched | (reads ? GuestRam::kReadWatched : 0));
    flagged_.push_back(r.at->frame());
  }
  sort_unique(flagged_);
}

bool Observation::breaks_in_page_of(Gva pc) const {
  return !break_pages_.empty() &&
         std::binary_search(break_pages_.begin(), break_pages_.end(), pc.value >> kPageShift);
}

bool Observation::is_cut(Gva pc) const {
  return std::binary_search(cuts_.begin(), cuts_.end(), static_cast<u16>(pc.offset()));
}

bool Observation::hit_breakpoint(Gva pc, const CpuState& s, Step at) {
  if (at == spec_.skip_at) return false;
  bool hit = false;
  for (unsigned i = 0; i < spec_.breakpoints.size(); ++i) {
    const CodeBreakpoint& b = spec_.breakpoints[i];
    if (b.pc != pc.value || !same_table(b.cr3, s.cr3) || (!b.restarts && (s.rflags & flag::RF))) continue;
    hits_.push_back(by_cpu(Hit::Kind::breakpoint, s, at));
    hits_.back().index = i;
    hit = true;
  }
  return hit;
}

Hit Observation::by_cpu(Hit::Kind kind, const CpuState& s, Step step) {
  Hit hit;
  hit.kind = kind;
  hit.vcpu = s.index;
  hit.rip = s.rip;
  hit.rsp = s.gpr[RSP];
  hit.cr3 = s.cr3;
  hit.step = step;
  return hit;
}

bool Observation::hit_delivery(Gva pc, const CpuState& s, Step after) {
  if (spec_.delivery_at != pc.value) return false;
  hits_.push_back(by_cpu(Hit::Kind::delivery, s, after));
  return true;
}

bool Observation::hit_turn(const CpuState& s, Step at) {
  if (spec_.turn_of != s.index || at == spec_.skip_at) return false;
  hits_.push_back(by_cpu(Hit::Kind::turn, s, at));
  return true;
}

bool Observation::translated(const PagingKey& key, Gva linear, Gpa page) {
  bool changed = false;
  for (Range& r : ranges_) {
    const Watchpoint& w = spec_.watchpoints[r.index];
    if (w.physical || r.linear.page() != linear.page() || !same_table(w.cr3, key.cr3)) continue;
    const Gpa at = page + r.linear.offset();
    if (r.at == at || !ram_.contains(page)) continue;
    r.at = at;
    look_at(r);
    changed = true;
  }
  if (changed) flag_pages();
  return changed;
}

bool Observation::overlaps(Gpa at, u64 size) const {
  return std::any_of(ranges_.begin(), ranges_.end(), [&](const Range& r) {
    return r.at && at.value < r.at->value + r.size && r.at->value < at.value + size;
  });
}

bool Observation::accessed(Gpa at, u64 size, bool write, AccessCause cause, const CpuState* cpu, Step after) {
  bool any = false;
  for (Range& r : ranges_) {
    if (!r.at || at.value >= r.at->value + r.size || r.at->value >= at.value + size) continue;
    const u64 from = std::max(at.value, r.at->value);
    const u64 to = std::min(at.value + size, r.at->value + r.size);
    const Hit::Kind kind = write ? Hit::Kind::write : Hit::Kind::read;
    Hit hit;
    if (cpu) hit = by_cpu(kind, *cpu, after);
    hit.kind = kind;
    hit.step = after;
    hit.index = r.index;
    hit.cause = cause;
    hit.at = Gpa(from);
    if (write) {
      u8* const known = r.bytes.data() + (from - r.at->value);
      const u8* const now = ram_.host(Gpa(from));
      hit.before.assign(known, known + (to - from));
      hit.now.assign(now, now + (to - from));
      std::memcpy(known, now, to - from);
    }
    const Watchpoint& w = spec_.watchpoints[r.index];
    if (!(w.kinds & (write ? Watchpoint::kWrite : Watchpoint::kRead))) continue;
    if (write && w.changes_only && hit.before == hit.now) continue;
    hits_.push_back(std::move(hit));
    any = true;
  }
  return any;
}

}  // namespace deja
