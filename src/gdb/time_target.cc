#include "gdb/time_target.h"

#include <algorithm>

#include "base/printable.h"
#include "gdb/interruption.h"
#include "replay/position.h"

namespace deja {
namespace {

constexpr Step kSlice = 4'000'000;                  // between two looks for Ctrl-C
constexpr Step kLongestInterruption = 300'000'000;  // an interrupted instruction gets on within this

// The context that an interruption gives back: where it goes on, on which stack, in which address space.
bool same_context(const CpuState& a, const CpuState& b) {
  return a.rip == b.rip && a.gpr[RSP] == b.gpr[RSP] && a.cr3 == b.cr3 &&
         a.seg[CS].selector == b.seg[CS].selector;
}

bool is_iret(const GuestInsn& i) {
  return i.ok && (i.insn.mnemonic == ZYDIS_MNEMONIC_IRETQ || i.insn.mnemonic == ZYDIS_MNEMONIC_IRETD ||
                  i.insn.mnemonic == ZYDIS_MNEMONIC_IRET);
}

Error lost(Step step) {
  return make_error("the replay does not go on as recorded after step {}: deja verify tells more",
                    format_count(step));
}

}  // namespace

GdbCpu TimeTarget::cpu(unsigned vcpu) { return gdb_cpu(machine(), vcpu); }

std::string TimeTarget::describe_vcpu(unsigned vcpu) {
  const CpuState& s = machine().cpu(vcpu);
  if (s.activity == Activity::halted) return "halted";
  if (s.activity == Activity::wait_for_sipi) return "not started";
  if (s.activity == Activity::shutdown) return "shut down";
  const unsigned bits = s.mode64() ? 64 : s.seg[CS].big() ? 32 : 16;
  return show("CPL {}, {}-bit code{}", s.cpl(), bits, machine().next_vcpu() == vcpu ? ", its turn" : "");
}

void TimeTarget::arrive() { current_ = machine().next_vcpu().value_or(current_); }

Status TimeTarget::seek(Step to) {
  machine().engine().observe({});
  DEJA_TRY(nav_.seek(to));
  arrive();
  return {};
}

GdbStop TimeTarget::stop(GdbStop::Why why, unsigned vcpu) {
  current_ = vcpu;
  GdbStop s;
  s.why = why;
  s.vcpu = vcpu;
  if (why == GdbStop::Why::history_ends)
    s.note = nav_.steps().damage
                 ? show("the recording is damaged from here on: {}", nav_.steps().damage->message)
                 : nav_.incomplete();
  return s;
}

GuestView TimeTarget::view(unsigned vcpu, bool physical) {
  return physical ? GuestView::physical(machine()) : GuestView::of_vcpu(machine(), vcpu);
}

std::size_t TimeTarget::read_memory(unsigned vcpu, bool physical, u64 address, void* out, std::size_t size) {
  const std::size_t got = read_pinned(view(vcpu, physical), conditions_.pins, address, out, size);
  return nav_.sound() ? got : 0;  // zeros in place of a damaged page are not what was there
}

// --- what to look for

void TimeTarget::take_conditions(const GdbResume& r) {
  conditions_.breakpoints = r.breakpoints;
  std::vector<PinnedWatchpoint>& pins = conditions_.pins;
  std::erase_if(pins, [&](const PinnedWatchpoint& p) {
    return std::find(r.watchpoints.begin(), r.watchpoints.end(), p.watchpoint) == r.watchpoints.end();
  });
  for (const GdbWatchpoint& w : r.watchpoints) {
    const bool known =
        std::any_of(pins.begin(), pins.end(), [&](const PinnedWatchpoint& p) { return p.watchpoint == w; });
    if (known) continue;
    PinnedWatchpoint p{w, {}, machine().cpu(r.watch_vcpu).cr3};
    auto pieces = locate(view(r.watch_vcpu, w.physical), w.address, w.size);
    if (pieces) p.pieces = std::move(pieces).value();
    pins.push_back(std::move(p));
  }
}

TimeTarget::Wanted TimeTarget::wanted(const GdbResume& r) const {
  Wanted out{{}, &r, {}};
  for (const GdbBreakpoint& b : r.breakpoints)
    out.spec.breakpoints.push_back({b.pc, is_kernel_half(b.pc) ? std::nullopt : process_, false});
  for (std::size_t i = 0; i < r.watchpoints.size(); ++i) {
    const GdbWatchpoint& w = r.watchpoints[i];
    const auto pin = std::find_if(conditions_.pins.begin(), conditions_.pins.end(),
                                  [&](const PinnedWatchpoint& p) { return p.watchpoint == w; });
    Watchpoint base;
    base.kinds = w.kind == GdbWatchpoint::Kind::write  ? Watchpoint::kWrite
                 : w.kind == GdbWatchpoint::Kind::read ? Watchpoint::kRead
                                                       : Watchpoint::kRead | Watchpoint::kWrite;
    base.changes_only = w.kind == GdbWatchpoint::Kind::write;
    const auto add = [&](bool physical, u64 address, u64 size) {
      base.physical = physical;
      base.address = address;
      base.size = size;
      out.spec.watchpoints.push_back(base);
      out.watch_of.push_back(i);
    };
    for (const MemoryPiece& piece : pin->pieces) add(true, piece.at.value, piece.size);
    if (pin->pieces.empty()) {
      if (!is_kernel_half(w.address)) base.cr3 = pin->cr3;
      add(false, w.address, w.size);
    }
  }
  return out;
}

std::optional<GdbStop> TimeTarget::judge(const Wanted& w, const Hit& hit) {
  if (!conditions_.hold(machine(), hit)) return std::nullopt;
  return stop_of(w, hit);
}

GdbStop TimeTarget::stop_of(const Wanted& w, const Hit& hit) {
  if (hit.kind == Hit::Kind::breakpoint) {
    GdbStop s = stop(GdbStop::Why::breakpoint, hit.vcpu.value_or(current_));
    s.hardware = w.request->breakpoints[hit.index].hardware;
    return s;
  }
  GdbStop s = stop(GdbStop::Why::watchpoint, hit.vcpu.value_or(current_));
  s.watchpoint = w.request->watchpoints[w.watch_of[hit.index]];
  // gdb looks at all watchpoints that this byte is in: not only at the one whose range begins first.
  s.accessed = conditions_.address_of(s.watchpoint, hit.at);
  return s;
}

// --- forward

Result<std::optional<GdbStop>> TimeTarget::run(const Wanted& w, Step limit, const Judge& judge) {
  Engine& engine = machine().engine();
  engine.observe(w.spec);
  while (true) {
    engine.observation().skip_at(nav_.position());
    DEJA_ASSIGN(const Replayer::Stop why, nav_.run_to(std::min(limit, nav_.position() + kSlice)));
    if (why == Replayer::Stop::diverged || why == Replayer::Stop::log_end) return lost(nav_.position());
    for (const Hit& hit : engine.observation().take())
      if (std::optional<GdbStop> s = judge(hit)) return s;
    if (why == Replayer::Stop::reached && nav_.position() >= limit) return std::optional<GdbStop>();
    if (w.request->interrupted()) {
      arrive();
      return std::optional(stop(GdbStop::Why::interrupted, current_));
    }
  }
}

Result<std::optional<GdbStop>> TimeTarget::run(const Wanted& w, Step limit) {
  return run(w, limit, [&](const Hit& hit) { return judge(w, hit); });
}

Result<GdbStop> TimeTarget::go(const Wanted& w) {
  DEJA_ASSIGN(const std::optional<GdbStop> s, run(w, nav_.last()));
  if (s) return *s;
  arrive();
  return stop(GdbStop::Why::history_ends, current_);
}

Result<std::optional<GdbStop>> TimeTarget::step(const Wanted& w, unsigned vcpu) {
  while (true) {
    if (nav_.position() >= nav_.last()) return std::optional(stop(GdbStop::Why::history_ends, vcpu));
    const std::optional<unsigned> next = machine().next_vcpu();
    if (next && *next != vcpu) {
      Wanted turn = w;
      turn.spec.turn_of = vcpu;
      bool came = false;
      DEJA_ASSIGN(const std::optional<GdbStop> s, run(turn, nav_.last(), [&](const Hit& hit) {
                    came |= hit.kind == Hit::Kind::turn;
                    return came ? std::optional(stop(GdbStop::Why::stepped, vcpu)) : judge(w, hit);
                  }));
      if (s && !came) return s;
      continue;
    }
    const CpuState before = machine().cpu(vcpu);
    const u64 deliveries = machine().engine().deliveries();
    DEJA_ASSIGN(const std::optional<GdbStop> s, run(w, nav_.position() + 1));
    if (s) return s;
    if (!next) continue;  // all were asleep
    current_ = vcpu;
    if (machine().engine().deliveries() == deliveries || !hide_interrupts_) return std::optional<GdbStop>();
    DEJA_ASSIGN(const std::optional<GdbStop> other, return_from_handler(w, vcpu, before));
    if (other) return other;
  }
}

Result<std::optional<GdbStop>> TimeTarget::return_from_handler(const Wanted& w, unsigned vcpu,
                                                               const CpuState& interrupted) {
  const Step delivered = nav_.position();
  Wanted with_return = w;
  with_return.spec.breakpoints.push_back({linear_pc(interrupted), interrupted.cr3, true});
  bool back = false;
  DEJA_ASSIGN(const std::optional<GdbStop> s,
              run(with_return, std::min(nav_.last(), delivered + kLongestInterruption), [&](const Hit& hit) {
                // A breakpoint on the interrupted instruction is the one that it was stepped from.
                back |= hit.kind == Hit::Kind::breakpoint && hit.vcpu == vcpu &&
                        same_context(machine().cpu(vcpu), interrupted);
                return back ? std::optional(stop(GdbStop::Why::stepped, vcpu)) : judge(w, hit);
              }));
  if (back) return std::optional<GdbStop>();
  if (s) return s;
  // It does not come back soon, as after a fatal fault: then its handler is what is to be seen.
  DEJA_TRY(seek(delivered));
  return std::optional(stop(GdbStop::Why::stepped, vcpu));
}

Result<GdbStop> TimeTarget::step_range(const Wanted& w) {
  const GdbResume& r = *w.request;
  u64 pc = 0;
  do {
    DEJA_ASSIGN(const std::optional<GdbStop> s, step(w, r.vcpu));
    if (s) return *s;
    if (r.interrupted()) return stop(GdbStop::Why::interrupted, r.vcpu);
    pc = linear_pc(machine().cpu(r.vcpu));
  } while (r.how == GdbResume::How::range && pc >= r.from && pc < r.to);
  return stop(GdbStop::Why::stepped, r.vcpu);
}

// --- backward

Result<GdbStop> TimeTarget::go_back(const Wanted& w) {
  BackwardSearch search;
  search.spec = w.spec;
  search.before = nav_.position();
  search.interrupted = w.request->interrupted;
  search.workers = workers_;
  search.accept = conditions_.filter();
  DEJA_ASSIGN(const BackwardResult result, search_backward(nav_, search));
  switch (result.outcome) {
    case BackwardResult::Outcome::found: {
      DEJA_TRY(seek(result.at));
      return stop_of(w, result.hits[0]);  // conditions held when it was accepted
    }
    case BackwardResult::Outcome::interrupted:
      DEJA_TRY(seek(result.searched_to));
      return stop(GdbStop::Why::interrupted, current_);
    case BackwardResult::Outcome::nothing:
      break;
  }
  DEJA_TRY(seek(nav_.first()));
  return stop(GdbStop::Why::history_begins, current_);
}

Result<std::optional<Step>> TimeTarget::last_step_of(unsigned vcpu, Step before,
                                                     const std::function<bool()>& interrupted) {
  for (Step to = before; to > nav_.first() && !interrupted();) {
    const Step from = nav_.segment_start(to - 1);
    DEJA_TRY(seek(from));
    DEJA_ASSIGN(const Replayer::Stop why, nav_.run_to(to));
    if (why != Replayer::Stop::reached) return lost(nav_.position());
    const Step ran = machine().last_ran(vcpu);
    if (ran >= from && ran < to) return std::optional(ran);
    to = from;
  }
  return std::optional<Step>();
}

Result<std::optional<Step>> TimeTarget::interruption_before(const Wanted& w, unsigned vcpu,
                                                            const CpuState& resumed, Step iret) {
  BackwardSearch search;
  search.spec.delivery_at = linear_pc(resumed);
  search.before = iret;
  search.floor = std::max(nav_.first(), iret - std::min(iret, kLongestInterruption));
  search.interrupted = w.request->interrupted;
  search.workers = workers_;
  search.accept = Interruption::of(resumed, vcpu).filter();
  DEJA_ASSIGN(const BackwardResult result, search_backward(nav_, search));
  if (result.outcome != BackwardResult::Outcome::found) return std::optional<Step>();
  return std::optional(result.at);
}

Result<GdbStop> TimeTarget::step_back(const Wanted& w, unsigned vcpu) {
  while (nav_.position() > nav_.first()) {
    const Step from = nav_.position();
    const CpuState resumed = machine().cpu(vcpu);
    DEJA_TRY(seek(from - 1));
    if (machine().next_vcpu() != vcpu) {
      DEJA_ASSIGN(const std::optional<Step> last, last_step_of(vcpu, from - 1, w.request->interrupted));
      if (!last && w.request->interrupted()) return stop(GdbStop::Why::interrupted, vcpu);
      DEJA_TRY(seek(last.value_or(nav_.first())));
      if (!last) break;
    }
    if (!hide_interrupts_ || !is_iret(view(vcpu).instruction(linear_pc(machine().cpu(vcpu)))))
      return stop(GdbStop::Why::stepped, vcpu);
    // Back over the whole handler, if that is what has returned here, to the moment at which it was called.
    const Step iret = nav_.position();
    DEJA_ASSIGN(const std::optional<Step> delivery, interruption_before(w, vcpu, resumed, iret));
    DEJA_TRY(seek(delivery.value_or(iret)));
    if (!delivery) return stop(GdbStop::Why::stepped, vcpu);
  }
  return stop(GdbStop::Why::history_begins, vcpu);
}

Result<GdbStop> TimeTarget::resume(const GdbResume& r) {
  take_conditions(r);
  const Wanted w = wanted(r);
  if (r.backward) {
    if (nav_.position() == nav_.first()) return stop(GdbStop::Why::history_begins, current_);
    return r.how == GdbResume::How::go ? go_back(w) : step_back(w, r.vcpu);
  }
  return r.how == GdbResume::How::go ? go(w) : step_range(w);
}

}  // namespace deja
