// The quick way of accesses and jumps that translated code could not settle inline.
#include "execute/quick_context.h"

namespace deja {

using namespace quick;

namespace {

DEJA_INLINE u64 on_bounce_buffer(ExecContext& context, u32 offset) {
  context.r9 = reinterpret_cast<u64>(context.bounce);
  context.r10 = 0;
  context.vectors_wanted = 0;  // as in resume()
  return context.quick.cache_exec + offset;
}

}  // namespace

[[gnu::flatten]] u64 run_quick_access(ExecContext* context, u64 site_id, u64 address) {
  const Gva first(address);
  QuickContext& q = context->quick;
  const MemSite& site = q.store->mem_sites[site_id];
  q.crossing = false;
  if (!q.enabled || site.special < q.first_copy) return kQuickDeclined;
  if (site.checked || site.span || site.align || site.waits_fpu || site.converts) return kQuickDeclined;
  const BlockMode mode = q.store->blocks[site.block].mode;
  const unsigned in_page = static_cast<unsigned>(kPageSize - first.offset());
  const Gva second = first + in_page;
  if (!mode.has(BlockMode::kCode64) || site.size <= in_page || second == Gva()) return kQuickDeclined;
  const unsigned rest = site.size - in_page;
  u8* const first_part = cached(*context, mode.view(), site.write, first, in_page);
  u8* const second_part = cached(*context, mode.view(), site.write, second, rest);
  if (!first_part || !second_part) return kQuickDeclined;
  if (site.read) {
    copy(context->bounce, first_part, in_page);
    copy(context->bounce + in_page, second_part, rest);
  }
  q.part[0] = first_part;
  q.part[1] = second_part;
  q.part_size[0] = in_page;
  q.part_size[1] = rest;
  q.crossing = true;
  ++q.crossings;
  return on_bounce_buffer(*context, site.special);
}

[[gnu::flatten]] u64 run_quick_commit(ExecContext* context, u64 site_id, u64) {
  QuickContext& q = context->quick;
  if (!q.crossing) return kQuickDeclined;
  q.crossing = false;
  const MemSite& site = q.store->mem_sites[site_id];
  if (site.write) {
    copy(q.part[0], context->bounce, q.part_size[0]);
    copy(q.part[1], context->bounce + q.part_size[0], q.part_size[1]);
  }
  return on_bounce_buffer(*context, site.after == AfterSite::resume_only ? site.special_resume : site.resume);
}

[[gnu::flatten]] u64 run_quick_jump(ExecContext* context, u64, u64 pc) {
  QuickContext& q = context->quick;
  const View view = BlockMode{privilege_mode(context->state)}.view();
  const u64 code = q.enabled ? find_jump(q.tables->view[static_cast<unsigned>(view)], Gva(pc)) : 0;
  if (!code) return kQuickDeclined;
  ++q.second_jumps;
  context->r9 = pc;
  context->vectors_wanted = view == View::user;
  return code;
}

}  // namespace deja
