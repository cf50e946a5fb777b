// Linear memory as helpers and event delivery see it (Mmu), and what every write to guest memory, by the CPU
// or a device, has to tell the TLBs, the code cache and the watchpoints.
#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "execute/engine.h"
#include "guest/page_walk.h"

namespace deja {

View Engine::view_for(Rights rights) const {
  const CpuState& s = ctx_->state;
  const bool smap = s.cr4 & cr4bit::SMAP;
  switch (rights) {
    case Rights::user:
      return View::user;
    case Rights::supervisor:
      return smap ? View::kernel_smap : View::kernel;
    case Rights::current:
      break;
  }
  if (s.cpl() == 3) return View::user;
  return smap && !(s.rflags & flag::AC) ? View::kernel_smap : View::kernel;
}

AddressSpace& Engine::space() {
  if (!space_.selected) space_.selected = &spaces_.select(paging_key(ctx_->state), &counters_.space_recycles);
  return *space_.selected;
}

void Engine::check_canonical(Linear at, unsigned size) const {
  if (at.wide() && !is_canonical(ctx_->state, at.from.value, size)) throw fault_gp();
}

bool Engine::translate(Gva linear, Access access, View view, Gpa* page, u32* error) {
  AddressSpace& sp = space();
  const Walk w = walk_pages(ram_, sp.key, linear, access, view == View::user, view == View::kernel_smap,
                            model_.physical_bits);
  if (!w.ok) {
    *error = w.error;
    return false;
  }
  *page = w.page;
  if (observation_.follows_linear() && observation_.translated(sp.key, linear.page(), w.page)) {
    spaces_.flush_all();
    run_.dropped = true;
  }
  if (ram_.contains(w.page) && access != Access::execute) spaces_.install(sp, view, linear, w, w.writable);
  return true;
}

void Engine::note_data_access(Linear at, unsigned size, bool write) {
  CpuState& s = ctx_->state;
  for (unsigned i = 0; i < 4; ++i) {
    if (!(s.dr7 >> (2 * i) & 3)) continue;
    const unsigned rw = s.dr7 >> (16 + 4 * i) & 3, len = s.dr7 >> (18 + 4 * i) & 3;
    if (!(rw == 3 || (rw == 1 && write))) continue;
    const u64 bytes = len == 2 ? 8 : len + 1u;
    const u64 from = s.dr[i] & ~(bytes - 1);
    if (from & ~at.mask) continue;
    if (((from - at.from.value) & at.mask) < size || ((at.from.value - from) & at.mask) < bytes)
      s.pending_dbg |= u64{1} << i;
  }
}

void Engine::write_ram(Gpa at, const void* data, u64 size, AccessCause cause) {
  const u8 flags = ram_.flags(at.frame());
  if (flags & (GuestRam::kPageTable | GuestRam::kUpperTable)) {
    if (spaces_.table_write(at, data, size)) {
      run_.dropped = true;
      ++counters_.table_drops;
    }
  }
  std::memcpy(ram_.host(at), data, size);
  ram_.mark_dirty(at.frame());
  if (flags & GuestRam::kCode) invalidate_code(at, size);
  if (flags & GuestRam::kWatched) note_access(at, size, true, cause);
}

void Engine::note_access(Gpa at, u64 size, bool write, AccessCause cause) {
  const bool by_cpu = run_.active && cause != AccessCause::device && cause != AccessCause::loader;
  // The run ends after the instruction in progress, whose step that is; devices act between steps.
  const Step after = clock_.steps + (run_.active ? 1 : 0);
  if (observation_.accessed(at, size, write, cause, by_cpu ? &ctx_->state : nullptr, after))
    run_.stop_requested = true;
}

AccessCause Engine::implicit_cause(Gva linear, Rights rights) const {
  const CpuState& s = ctx_->state;
  const auto within = [&](u64 base, u64 limit) { return linear.value - base <= limit; };
  if (rights == Rights::supervisor) {
    if (within(s.gdtr.base, s.gdtr.limit) || within(s.ldtr.base, s.ldtr.limit))
      return AccessCause::descriptor;
    if (within(s.tr.base, s.tr.limit)) return AccessCause::task_state;
  }
  return causes_.delivering ? AccessCause::delivery : AccessCause::instruction;
}

void Engine::tracked_page_written(Gpa at, u64 size) {
  if (ram_.flags(at.frame()) & (GuestRam::kPageTable | GuestRam::kUpperTable))
    if (spaces_.table_write(at, nullptr, size)) run_.dropped = true;
  if (ram_.flags(at.frame()) & GuestRam::kCode) invalidate_code(at, size);
  if (ram_.flags(at.frame()) & GuestRam::kWatched) note_access(at, size, true, causes_.device);
}

void Engine::walk_marked(Gpa entry) { note_access(entry, 1, true, AccessCause::page_walk); }

void Engine::load(Gpa at, u8* to, unsigned size, AccessCause cause) {
  if (ram_.contains(at)) {
    std::memcpy(to, ram_.host(at), size);
    if (ram_.flags(at.frame()) & GuestRam::kReadWatched) note_access(at, size, false, cause);
    return;
  }
  for (unsigned done = 0; done < size;) {
    const unsigned n = std::min(size - done, 8u);
    const u64 value = gate_.mmio_read(ctx_->state.index, at + done, n);
    std::memcpy(to + done, &value, n);
    done += n;
  }
}

void Engine::store(Gpa at, const u8* from, unsigned size, AccessCause cause) {
  if (ram_.writable(at)) return write_ram(at, from, size, cause);
  for (unsigned done = 0; done < size;) {
    const unsigned n = std::min(size - done, 8u);
    u64 value = 0;
    std::memcpy(&value, from + done, n);
    gate_.mmio_write(ctx_->state.index, at + done, value, n);
    done += n;
  }
}

// Both find both pages before they touch one of them.
Engine::TwoParts Engine::find_parts(Linear at, unsigned size, Access access, View view) {
  DEJA_CHECK(size <= kPageSize);
  TwoParts p;
  p.size[0] = std::min(size, at.in_page());
  p.size[1] = size - p.size[0];
  for (unsigned i = 0; i < 2 && p.size[i]; ++i) {
    const Gva part = i ? at.after(p.size[0]) : at.from;
    u32 error = 0;
    if (!translate(part, access, view, &p.at[i], &error)) throw fault_pf(part.value, error);
    p.at[i] = p.at[i] + part.offset();
  }
  return p;
}

void Engine::read_linear(Linear at, void* out, unsigned size, Rights rights) {
  check_canonical(at, size);
  const View view = view_for(rights);
  if (ctx_->state.dr7 & 0xff) note_data_access(at, size, false);
  if (size <= at.in_page()) {
    if (const u8* p = cached(at.from, false, view)) {
      std::memcpy(out, p, size);
      return;
    }
  }
  const TwoParts parts = find_parts(at, size, Access::read, view);
  u8* to = static_cast<u8*>(out);
  for (unsigned i = 0; i < 2 && parts.size[i]; to += parts.size[i++])
    load(parts.at[i], to, parts.size[i], implicit_cause(at.from, rights));
}

void Engine::write_linear(Linear at, const void* data, unsigned size, Rights rights) {
  check_canonical(at, size);
  const View view = view_for(rights);
  if (ctx_->state.dr7 & 0xff) note_data_access(at, size, true);
  if (size <= at.in_page()) {
    if (u8* p = cached(at.from, true, view)) {
      std::memcpy(p, data, size);
      return;
    }
  }
  const TwoParts parts = find_parts(at, size, Access::write, view);
  const u8* from = static_cast<const u8*>(data);
  for (unsigned i = 0; i < 2 && parts.size[i]; from += parts.size[i++])
    store(parts.at[i], from, parts.size[i], implicit_cause(at.from, rights));
}

void Engine::probe_linear(Linear at, unsigned size, Access access, Rights rights) {
  if (size == 0) return;
  check_canonical(at, size);
  const View view = view_for(rights);
  for (unsigned done = 0; done < size;) {
    const Gva part = at.after(done);
    Gpa page;
    u32 error = 0;
    if (access == Access::execute || !cached(part, access == Access::write, view))
      if (!translate(part, access, view, &page, &error)) throw fault_pf(part.value, error);
    done += static_cast<unsigned>(kPageSize - part.offset());
  }
}

unsigned Engine::fetch(Gva address, u8* out, unsigned size) {
  const View view = view_for(Rights::current);
  const Linear code = linear(address);
  unsigned done = 0;
  while (done < size) {
    Gpa page;
    u32 error = 0;
    const Gva at = code.after(done);
    if (!translate(at, Access::execute, view, &page, &error)) {
      if (done) return done;
      throw fault_pf(at.value, error);
    }
    if (!ram_.contains(page)) {
      if (done) return done;
      throw fault_gp();
    }
    const unsigned n = std::min<unsigned>(size - done, static_cast<unsigned>(kPageSize - at.offset()));
    std::memcpy(out + done, ram_.host(page + at.offset()), n);
    done += n;
  }
  return done;
}

const u8* Engine::map_read(Gva address, unsigned size) {
  const Linear range = linear(address);
  check_canonical(range, size);
  const View view = view_for(Rights::current);
  if (ctx_->state.dr7 & 0xff) note_data_access(range, size, false);
  if (const u8* p = cached(range.from, false, view)) return p;
  Gpa page;
  u32 error = 0;
  if (!translate(range.from, Access::read, view, &page, &error)) throw fault_pf(range.from.value, error);
  if (!ram_.contains(page)) return nullptr;
  // A part of it may be all that is used: then each access is noted by itself.
  if ((ram_.flags(page.frame()) & GuestRam::kReadWatched) &&
      observation_.overlaps(page + range.from.offset(), size))
    return nullptr;
  return ram_.host(page + range.from.offset());
}

u8* Engine::map_write(Gva address, unsigned size) {
  const Linear range = linear(address);
  check_canonical(range, size);
  const View view = view_for(Rights::current);
  if (ctx_->state.dr7 & 0xff) note_data_access(range, size, true);
  if (u8* p = cached(range.from, true, view)) return p;
  Gpa page;
  u32 error = 0;
  if (!translate(range.from, Access::write, view, &page, &error)) throw fault_pf(range.from.value, error);
  if (!ram_.writable(page)) return nullptr;
  const u64 frame = page.frame();
  if (ram_.flags(frame) & GuestRam::kTracked) {
    // A page that is about to be filled as a whole is rarely code or a page table any more.
    if (size < kPageSize / 2) return nullptr;
    const Gpa at = page + range.from.offset();
    if ((ram_.flags(frame) & GuestRam::kWatched) && observation_.overlaps(at, size)) return nullptr;
    if (ram_.flags(frame) & (GuestRam::kPageTable | GuestRam::kUpperTable))
      if (spaces_.table_write(at, nullptr, size)) run_.dropped = true;
    if (ram_.flags(frame) & GuestRam::kCode) invalidate_code(at, size);
  }
  ram_.mark_dirty(frame);
  return ram_.host(page + range.from.offset());
}

}  // namespace deja
