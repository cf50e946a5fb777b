#include "timeline/who_wrote.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <iterator>
#include <memory>
#include <mutex>

#include "base/printable.h"
#include "replay/position.h"
#include "translate/mode.h"

namespace deja {
namespace {

constexpr Step kSlice = 4'000'000;             // between two looks at `interrupted`
constexpr std::chrono::milliseconds kPoll{5};  // between two looks at `interrupted` while others work

ObservationSpec watch_writes(const std::vector<MemoryPiece>& pieces) {
  ObservationSpec spec;
  for (const MemoryPiece& p : pieces) {
    Watchpoint w;
    w.address = p.at.value;
    w.size = p.size;
    spec.watchpoints.push_back(w);
  }
  return spec;
}

// One step may write the same bytes more than once, and several pieces.
Write write_of(const std::vector<MemoryPiece>& pieces, const std::vector<Hit>& hits) {
  Write w;
  const Hit& last = hits.back();
  w.before = place_of(last);
  w.after = last.step;
  w.vcpu = last.vcpu;
  w.cause = last.cause;
  w.rip = last.rip;
  w.cr3 = last.cr3;
  const auto offset_of = [&](const Hit& h) {
    u64 offset = h.at.value - pieces[h.index].at.value;
    for (unsigned i = 0; i < h.index; ++i) offset += pieces[i].size;
    return offset;
  };
  u64 from = ~u64{0}, to = 0;
  for (const Hit& h : hits) {
    from = std::min(from, offset_of(h));
    to = std::max(to, offset_of(h) + h.now.size());
  }
  w.offset = from;
  u64 piece_start = 0;
  for (const MemoryPiece& p : pieces) {
    if (from < piece_start + p.size) {
      w.at = p.at + (from - piece_start);
      break;
    }
    piece_start += p.size;
  }
  w.old_bytes.resize(to - from);
  w.new_bytes.resize(to - from);
  std::vector<bool> known(to - from);
  for (const Hit& h : hits)
    for (u64 i = 0; i < h.now.size(); ++i) {
      const u64 at = offset_of(h) - from + i;
      if (!known[at]) w.old_bytes[at] = h.before[i];
      w.new_bytes[at] = h.now[i];
      known[at] = true;
    }
  return w;
}

// At the step before the write.
void add_instruction(Machine& machine, Write* w) {
  if (!w->vcpu) return;
  const CpuState& s = machine.cpu(*w->vcpu);
  w->cpl = s.cpl();
  w->rip = s.mode64() ? s.rip : (s.seg[CS].base + s.rip) & 0xffffffff;
  w->instruction = instruction_at(machine, *w->vcpu, w->rip).text;
}

bool same_step(const Hit& a, const Hit& b) { return a.step == b.step; }

// The writes of the steps behind `from` and up to `to`; nothing when `interrupted`.
Result<std::optional<std::vector<Write>>> writes_between(Navigator& nav,
                                                         const std::vector<MemoryPiece>& pieces, Step from,
                                                         Step to, const std::function<bool()>& interrupted) {
  Engine& engine = nav.machine().engine();
  engine.observe({});
  DEJA_TRY(nav.seek(from));
  engine.observe(watch_writes(pieces));
  std::vector<Hit> hits;
  for (bool there = false; !there;) {
    if (interrupted()) return std::optional<std::vector<Write>>();
    DEJA_ASSIGN(const Replayer::Stop stop, nav.run_to(std::min(to, nav.position() + kSlice)));
    if (stop == Replayer::Stop::diverged || stop == Replayer::Stop::log_end)
      return make_error("the replay does not get to step {} as recorded: deja verify {}", format_count(to),
                        nav.dir().string());
    there = stop == Replayer::Stop::reached && nav.position() >= to;
    for (Hit& hit : engine.observation().take()) hits.push_back(std::move(hit));
  }
  engine.observe({});
  std::vector<Write> writes;
  for (std::size_t i = 0; i < hits.size();) {
    std::size_t n = 1;
    while (i + n < hits.size() && same_step(hits[i], hits[i + n])) ++n;
    writes.push_back(write_of(pieces, {hits.begin() + static_cast<std::ptrdiff_t>(i),
                                       hits.begin() + static_cast<std::ptrdiff_t>(i + n)}));
    i += n;
  }
  // A second pass, for what stood in memory and registers right before each.
  for (Write& w : writes) {
    if (interrupted()) return std::optional<std::vector<Write>>();
    if (w.vcpu) DEJA_TRY(nav.seek(w.before));
    add_instruction(nav.machine(), &w);
    DEJA_TRY(nav.sound());
  }
  return std::optional(std::move(writes));
}

// Every write there was, by several threads that take the intervals between checkpoints one by one. Intervals
// that cannot have any are left out.
class SharedCollection {
 public:
  SharedCollection(const Navigator& nav, const WhoWrote& request) : pieces_(request.pieces) {
    const ObservationSpec spec = watch_writes(pieces_);
    for (Step from = nav.first(); from < request.at;) {
      const Step to = std::min(request.at, nav.segment_end(from));
      if (!is_ruled_out(nav, spec, from, to)) intervals_.push_back({from, to, State::open, {}});
      from = to;
    }
  }

  std::size_t intervals() const { return intervals_.size(); }

  // Goes through intervals until there is none left to take. An error: the machine does not get there.
  Status help(Navigator& nav, const std::function<bool()>& interrupted = {}) {
    const auto stop = [&] { return abandoned_ || (interrupted && interrupted()); };
    while (Interval* const interval = take()) {
      // Should this fail, somebody else takes it.
      struct PutBack {
        SharedCollection& of;
        Interval* interval;
        ~PutBack() { of.settle(interval, std::nullopt); }
      } put_back{*this, interval};
      DEJA_ASSIGN(auto writes, writes_between(nav, pieces_, interval->from, interval->to, stop));
      if (!writes) return {};
      settle(interval, std::move(writes));
    }
    return {};
  }

  // All of it, by this thread and whoever helps.
  Result<std::vector<Write>> finish(Navigator& nav, const std::function<bool()>& asked_to_stop) {
    bool stopped = false;
    const auto interrupted = [&] { return stopped = stopped || (asked_to_stop && asked_to_stop()); };
    while (true) {
      Status status = help(nav, interrupted);
      std::unique_lock lock(mutex_);
      const bool all = std::all_of(intervals_.begin(), intervals_.end(),
                                   [](const Interval& i) { return i.state == State::searched; });
      if (!status || all || interrupted()) {
        abandoned_ = true;
        if (!status) return status.error();
        if (!all) return make_error("interrupted");
        break;
      }
      news_.wait_for(lock, kPoll);
    }
    std::vector<Write> writes;
    for (Interval& i : intervals_)
      writes.insert(writes.end(), std::move_iterator(i.writes.begin()), std::move_iterator(i.writes.end()));
    return writes;
  }

 private:
  enum class State : u8 { open, taken, searched };
  struct Interval {
    Step from, to;
    State state;
    std::vector<Write> writes;
  };

  Interval* take() {
    const std::lock_guard lock(mutex_);
    for (Interval& i : intervals_)
      if (i.state == State::open && !abandoned_) {
        i.state = State::taken;
        return &i;
      }
    return nullptr;
  }
  void settle(Interval* interval, std::optional<std::vector<Write>> writes) {
    {
      const std::lock_guard lock(mutex_);
      if (interval->state != State::taken) return;
      interval->state = writes ? State::searched : State::open;
      if (writes) interval->writes = std::move(*writes);
    }
    news_.notify_all();
  }

  const std::vector<MemoryPiece> pieces_;
  std::mutex mutex_;
  std::condition_variable news_;
  std::vector<Interval> intervals_;  // the oldest first
  std::atomic<bool> abandoned_ = false;
};

Result<std::vector<Write>> every_write(Navigator& nav, const WhoWrote& request) {
  const auto shared = std::make_shared<SharedCollection>(nav, request);
  if (request.workers && request.workers->count() && shared->intervals() > 1)
    // What ails a worker's machine need not ail that of who asks.
    request.workers->start([shared](Navigator& other) { (void)shared->help(other).ok(); });
  return shared->finish(nav, request.interrupted);
}

}  // namespace

GuestInsn instruction_at(Machine& machine, unsigned vcpu, u64 linear) {
  const CpuState& s = machine.cpu(vcpu);
  const PagingKey key = paging_key(s);
  u8 bytes[15];
  unsigned got = 0;
  for (; got < sizeof bytes; ++got) {
    const std::optional<Gpa> at = peek_translation(machine.ram(), key, Gva(linear + got));
    if (!at || !machine.ram().read(*at, &bytes[got], 1)) break;
  }
  const CodeSize size = mode_of(s).code_size();
  GuestInsn out;
  if (decode(bytes, got, size, s.seg[SS].big(), &out.insn) != DecodeStatus::ok) return out;
  out.ok = true;
  out.text = disassemble(bytes, out.insn.length, size, linear);
  return out;
}

Result<std::vector<MemoryPiece>> locate_linear(Machine& machine, unsigned vcpu, std::optional<u64> cr3,
                                               u64 address, u64 size) {
  PagingKey key = paging_key(machine.cpu(vcpu));
  if (cr3) key.cr3 = *cr3 & 0x000ffffffffff000;
  std::vector<MemoryPiece> pieces;
  for (u64 done = 0; done < size;) {
    const Gva linear(address + done);
    const u64 n = std::min(size - done, kPageSize - linear.offset());
    const std::optional<Gpa> at = peek_translation(machine.ram(), key, linear);
    if (!at)
      return make_error("address {:#x} is not mapped at step {} in the address space with CR3 {:#x}",
                        linear.value, format_count(machine.clock().steps), key.cr3);
    if (!machine.ram().contains(*at, n))
      return make_error("address {:#x} is mapped to {:#x}, which is a device's and not RAM", linear.value,
                        at->value);
    if (!pieces.empty() && pieces.back().at + pieces.back().size == *at)
      pieces.back().size += n;
    else
      pieces.push_back({*at, n});
    done += n;
  }
  return pieces;
}

Result<std::vector<MemoryPiece>> locate_physical(Machine& machine, u64 address, u64 size) {
  if (!machine.ram().contains(Gpa(address), size))
    return make_error("physical memory {:#x}/{} is not RAM, which ends at {:#x}", address, size,
                      machine.ram().end());
  return std::vector<MemoryPiece>{{Gpa(address), size}};
}

Result<std::vector<Write>> who_wrote(Navigator& nav, const WhoWrote& request) {
  if (request.all) return every_write(nav, request);
  BackwardSearch search;
  search.spec = watch_writes(request.pieces);
  search.before = request.at;
  search.interrupted = request.interrupted;
  search.workers = request.workers;
  DEJA_ASSIGN(const BackwardResult result, search_backward(nav, search));
  if (result.outcome == BackwardResult::Outcome::interrupted) return make_error("interrupted");
  std::vector<Write> writes;
  if (result.outcome == BackwardResult::Outcome::nothing) return writes;
  writes.push_back(write_of(request.pieces, result.hits));
  if (writes[0].vcpu) DEJA_TRY(nav.seek(writes[0].before));
  add_instruction(nav.machine(), &writes[0]);
  return writes;
}

Result<MemoryRange> parse_memory_range(std::string_view text) {
  const auto number = [](std::string_view digits, int base, u64* value) {
    if (digits.starts_with("0x")) {
      digits.remove_prefix(2);
      base = 16;
    }
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), *value, base);
    return error == std::errc() && end == digits.data() + digits.size();
  };
  constexpr u64 kMost = 1_MiB;
  MemoryRange range;
  const auto slash = text.find('/');
  if (!number(text.substr(0, slash), 16, &range.address))
    return make_error("'{}' is not an address; write hexadecimal digits, and /LENGTH if it is not 8", text);
  if (slash != std::string_view::npos &&
      (!number(text.substr(slash + 1), 10, &range.size) || range.size == 0 || range.size > kMost))
    return make_error("'{}': the length is 1 to {} bytes", text, kMost);
  if (range.address + range.size - 1 < range.address)
    return make_error("'{}' goes beyond the end of the address space", text);
  return range;
}

std::string describe(const Write& w) {
  const auto value = [](const std::vector<u8>& bytes) {
    std::string s;
    if (bytes.size() <= 8) {
      for (std::size_t i = bytes.size(); i-- > 0;) s += show("{:02x}", bytes[i]);
      return "0x" + s;
    }
    constexpr std::size_t kShown = 32;
    for (std::size_t i = 0; i < std::min(bytes.size(), kShown); ++i)
      s += show("{}{:02x}", i ? " " : "", bytes[i]);
    return s + (bytes.size() > kShown ? "…" : "");
  };
  std::string text = show("step {}: ", format_count(w.before));
  text += w.vcpu ? show("vCPU {} {} ", *w.vcpu, w.cpl == 3 ? "user" : "kernel")
                 : show("{} ", cause_text(w.cause));
  if (w.vcpu) text += show("{:#x}{}{}  ", w.rip, w.symbol.empty() ? "" : " ", w.symbol);
  if (w.vcpu) text += w.instruction.empty() ? "?" : w.instruction;
  if (w.vcpu && w.cause != AccessCause::instruction) text += show(" ({})", cause_text(w.cause));
  return text +
         show("  {:#x}/{}: {} -> {}", w.at.value, w.new_bytes.size(), value(w.old_bytes), value(w.new_bytes));
}

std::string_view cause_text(AccessCause cause) {
  switch (cause) {
    case AccessCause::instruction:
      return "instruction";
    case AccessCause::page_walk:
      return "accessed and dirty bits of a page walk";
    case AccessCause::delivery:
      return "stack frame of an exception or interrupt";
    case AccessCause::descriptor:
      return "accessed or busy bit of a descriptor";
    case AccessCause::task_state:
      return "task switch";
    case AccessCause::device:
      return "device";
    case AccessCause::loader:
      return "boot loader";
  }
  return "?";
}

}  // namespace deja
