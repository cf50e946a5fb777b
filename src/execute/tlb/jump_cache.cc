// The jump cache, and what it and far links depend on: the pages that code was fetched from.
#include <algorithm>
#include <utility>

#include "decode/insn.h"
#include "execute/tlb/address_space.h"

namespace deja {
namespace {

// More than there are slots, so that taking duplicates out makes room.
constexpr std::size_t kMostJumps = 2 * kJumpSlots, kMostFarLinks = 2 * kFarLinks;
constexpr std::size_t kMostDependents = 1 << 20;

// The last one that an instruction at `pc` can have.
Gva last_byte(Gva pc) { return pc + (kMaxInsnBytes - 1); }

template <class T>
void keep_unique(std::vector<T>& list) {
  std::sort(list.begin(), list.end());
  list.erase(std::unique(list.begin(), list.end()), list.end());
}

void reset_jump(AddressSpace::PerView& v, ViewTables& t, u64 slot) {
  t.jump_tag[slot] = invalid_jump_tag(slot);
  if (!v.second_ways[slot]) return;
  t.second_jump_tag[slot] = invalid_jump_tag(slot);
  v.second_ways[slot] = false;
}

// What is in the first way moves there.
void set_second_way(AddressSpace::PerView& v, ViewTables& t, u64 slot) {
  t.second_jump_tag[slot] = t.jump_tag[slot];
  t.second_jump_code[slot] = t.jump_code[slot];
  v.second_ways[slot] = true;
}

}  // namespace

void AddressSpaces::install_jump(AddressSpace& user, View view, Gva pc, u64 code, u32 mode) {
  const unsigned vi = static_cast<unsigned>(view);
  set_jump_mode(user, view, mode);
  AddressSpace& space = owner(user, view);
  limit_lists(space, vi);
  ViewTables& t = user.tables->view[vi];
  auto& v = space.view[vi];
  const u64 slot = jump_slot(pc);
  if (t.jump_tag[slot] != u64{0} - pc.value) {
    note_dependent(space, vi, pc, false, static_cast<u32>(slot));
    if (t.jump_tag[slot] == invalid_jump_tag(slot))
      v.jumps.push_back(static_cast<u16>(slot));
    else
      set_second_way(v, t, slot);
  }
  t.jump_tag[slot] = u64{0} - pc.value;
  t.jump_code[slot] = code;
}

// Lists collect what is out of date, and duplicates.
void AddressSpaces::limit_lists(AddressSpace& space, unsigned vi) {
  auto& v = space.view[vi];
  if (v.jumps.size() >= kMostJumps) keep_unique(v.jumps);
  if (v.far_links.size() >= kMostFarLinks) keep_unique(v.far_links);
  if (v.dependents.size() < kMostDependents) return;
  const ViewTables& t = space.tables->view[vi];
  const auto old = std::exchange(v.dependents, {});
  std::vector<std::pair<bool, u32>> kept;
  for (unsigned exec = 0; exec < AddressSpace::PerView::kExecSlots; ++exec) {
    const auto leads_here = [&](u64 tag) {
      const Gva pc(u64{0} - tag);
      return exec_slot(pc) == exec || exec_slot(last_byte(pc)) == exec;
    };
    const auto is_current = [&](const AddressSpace::PerView::Dependent& d) {
      if (d.far) return t.far_link[d.slot] != far_link_miss_;
      return leads_here(t.jump_tag[d.slot]) ||
             (v.second_ways[d.slot] && leads_here(t.second_jump_tag[d.slot]));
    };
    kept.clear();
    for (u32 n = std::exchange(v.first_dependent[exec], 0); n; n = old[n - 1].next)
      if (is_current(old[n - 1])) kept.emplace_back(old[n - 1].far, old[n - 1].slot);
    keep_unique(kept);
    for (const auto& [far, slot] : kept) add_dependent(v, exec, far, slot);
  }
  if (v.dependents.size() >= kMostDependents / 2) flush_jumps(space, vi);
}

void AddressSpaces::add_dependent(AddressSpace::PerView& v, unsigned exec, bool far, u32 slot) {
  v.dependents.push_back({far, slot, v.first_dependent[exec]});
  v.first_dependent[exec] = static_cast<u32>(v.dependents.size());
}

void AddressSpaces::note_dependent(AddressSpace& space, unsigned vi, Gva pc, bool far, u32 slot) {
  const unsigned first = exec_slot(pc), last = exec_slot(last_byte(pc));
  add_dependent(space.view[vi], first, far, slot);
  if (last != first) add_dependent(space.view[vi], last, far, slot);
}

void AddressSpaces::drop_dependents(AddressSpace& space, unsigned vi, unsigned exec) {
  auto& v = space.view[vi];
  ViewTables& t = space.tables->view[vi];
  for (u32 n = v.first_dependent[exec]; n; n = v.dependents[n - 1].next) {
    const u32 slot = v.dependents[n - 1].slot;
    if (v.dependents[n - 1].far)
      t.far_link[slot] = far_link_miss_;
    else
      reset_jump(v, t, slot);
  }
  v.first_dependent[exec] = 0;
}

void AddressSpaces::flush_jumps(AddressSpace& space, unsigned vi) {
  flush_jump_cache(space, vi);
  flush_far_links(space, vi);
  space.view[vi].first_dependent.fill(0);
  space.view[vi].dependents.clear();
}

void AddressSpaces::flush_jump_cache(AddressSpace& space, unsigned vi) {
  auto& v = space.view[vi];
  ViewTables& t = space.tables->view[vi];
  for (const u16 slot : v.jumps) reset_jump(v, t, slot);
  v.jumps.clear();
}

void AddressSpaces::flush_all_jumps() {
  for_each_view([&](AddressSpace& s, unsigned vi) { flush_jumps(s, vi); });
}

void AddressSpaces::drop_jumps_into(u64 begin, u64 end, u32 first, u32 last) {
  for_each_view([&](AddressSpace& s, unsigned vi) {
    ViewTables& t = s.tables->view[vi];
    std::erase_if(s.view[vi].jumps, [&](u16 slot) {
      const auto leads_there = [&](u64 code) { return code - begin < end - begin; };
      auto& v = s.view[vi];
      if (!leads_there(t.jump_code[slot]) && !(v.second_ways[slot] && leads_there(t.second_jump_code[slot])))
        return false;
      reset_jump(v, t, slot);
      return true;
    });
    std::erase_if(s.view[vi].far_links, [&](u32 slot) {
      if (t.far_link[slot] - begin >= end - begin && (slot < first || slot >= last)) return false;
      t.far_link[slot] = far_link_miss_;
      return true;
    });
  });
}

}  // namespace deja
