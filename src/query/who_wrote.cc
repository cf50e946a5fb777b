#include "query/who_wrote.h"

#include <algorithm>
#include <charconv>
#include <memory>

#include "base/printable.h"
#include "query/write_codec.h"
#include "replay/position.h"
#include "timeline/work_queue.h"

namespace deja {
namespace {

constexpr Step kSlice = 4'000'000;  // between two looks at `interrupted`

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
  DEJA_CHECK(!hits.empty());
  const Hit& last = hits.back();
  w.before = place_of(last);
  w.after = last.step;
  w.vcpu = last.vcpu;
  w.cause = last.cause;
  w.rip = last.rip;
  w.cr3 = last.cr3;
  const auto offset_of = [&](const Hit& h) {
    DEJA_CHECK(h.index < pieces.size(), "piece {} of {}", h.index, pieces.size());
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
void add_instruction(const Machine& machine, Write* w) {
  if (!w->vcpu) return;
  const CpuState& s = machine.cpu(*w->vcpu);
  w->cpl = s.cpl();
  w->rip = linear_pc(s);
  w->instruction = GuestView::of_vcpu(machine, *w->vcpu).instruction(w->rip).text;
}

// The writes of the steps behind `from` and up to `to`; nothing when `interrupted`.
Result<std::optional<std::vector<Hit>>> hits_between(Navigator& nav, const ObservationSpec& spec, Interval in,
                                                     const Interrupted& interrupted) {
  Engine& engine = nav.machine().engine();
  engine.observe({});
  DEJA_TRY(nav.seek(in.from));
  engine.observe(spec);
  std::vector<Hit> hits;
  for (bool there = false; !there;) {
    if (interrupted && interrupted()) return std::optional<std::vector<Hit>>();
    DEJA_ASSIGN(const Replayer::Stop stop, nav.run_to(std::min(in.to, nav.position() + kSlice)));
    if (stop == Replayer::Stop::diverged || stop == Replayer::Stop::log_end)
      return make_error("the replay does not get to step {} as recorded: deja verify {}", format_count(in.to),
                        nav.dir().string());
    there = stop == Replayer::Stop::reached && nav.position() >= in.to;
    for (Hit& hit : engine.observation().take()) {
      DEJA_CHECK(hits.empty() || hits.back().step <= hit.step, "a hit of step {} comes behind step {}",
                 hit.step, hits.back().step);
      hits.push_back(std::move(hit));
    }
  }
  engine.observe({});
  return std::optional(std::move(hits));
}

Result<std::optional<std::vector<Write>>> writes_between(Navigator& nav,
                                                         const std::vector<MemoryPiece>& pieces, Interval in,
                                                         const Interrupted& interrupted) {
  DEJA_ASSIGN(const std::optional<std::vector<Hit>> hits,
              hits_between(nav, watch_writes(pieces), in, interrupted));
  if (!hits) return std::optional<std::vector<Write>>();
  std::vector<Write> writes;
  for (auto first = hits->begin(); first != hits->end();) {
    const auto next =
        std::find_if(first, hits->end(), [&](const Hit& hit) { return hit.step != first->step; });
    writes.push_back(write_of(pieces, {first, next}));
    first = next;
  }
  // A second pass, for what stood in memory and registers right before each.
  for (Write& w : writes) {
    if (interrupted && interrupted()) return std::optional<std::vector<Write>>();
    if (w.vcpu) DEJA_TRY(nav.seek(w.before));
    add_instruction(nav.machine(), &w);
    DEJA_TRY(nav.sound());
  }
  return std::optional(std::move(writes));
}

// --- the same as work

constexpr u32 kVersion = 1;  // of both

struct Question {
  std::vector<MemoryPiece> pieces;
};
template <class A>
void serialize(A& a, Question& q) {
  list_field(a, q.pieces);
}

// Writes one behind the other, up to the end of the bytes: results that come in order are merged by
// appending them.
struct Writes {
  std::vector<Write> all;
};
template <class A>
void serialize(A& a, Writes& w) {
  if constexpr (A::is_writer) {
    for (Write& write : w.all) serialize(a, write);
  } else {
    while (a.ok() && !a.at_end()) serialize(a, w.all.emplace_back());
  }
}

Result<std::optional<ValueBytes>> run(const WorkPlace& place, const Work& work,
                                      const Interrupted& interrupted) {
  DEJA_ASSIGN(const Question question,
              from_bytes<Question>(kVersion, "a question for writes", work.parameters));
  DEJA_ASSIGN(auto writes, writes_between(place.nav, question.pieces, work.interval, interrupted));
  if (!writes) return std::optional<ValueBytes>();
  return std::optional(to_bytes(kVersion, Writes{std::move(*writes)}));
}

Status append(ValueBytes* result, const ValueBytes& next) {
  constexpr std::ptrdiff_t kHeader = sizeof kVersion;
  if (result->size() < kHeader || next.size() < kHeader ||
      !std::equal(result->begin(), result->begin() + kHeader, next.begin()))
    return make_error("writes in two intervals are told of in two formats");
  result->insert(result->end(), next.begin() + kHeader, next.end());
  return {};
}

bool never_ends(const ValueBytes&) { return false; }

const WorkKind kCollectWrites{"collect-writes", {run, append, never_ends}};

// Intervals between checkpoints, the oldest first; those that cannot have any are left out.
std::vector<Interval> intervals_of(const Navigator& nav, const ObservationSpec& spec, Step end) {
  std::vector<Interval> intervals;
  for (Step from = nav.first(); from < end;) {
    const Step to = std::min(end, nav.segment_end(from));
    if (!is_ruled_out(nav, spec, from, to)) intervals.push_back({from, to});
    from = to;
  }
  return intervals;
}

Result<std::vector<Write>> every_write(Navigator& nav, const WhoWrote& request) {
  const auto queue = std::make_shared<WorkQueue>(kCollectWrites, to_bytes(kVersion, Question{request.pieces}),
                                                 intervals_of(nav, watch_writes(request.pieces), request.at));
  if (request.workers && request.workers->count() && queue->intervals().size() > 1)
    share(queue, *request.workers);
  DEJA_ASSIGN(const WorkQueue::Answer answer, queue->finish(runner({nav, true}), request.interrupted));
  if (answer.interrupted) return make_error("interrupted");
  if (answer.done == 0) return std::vector<Write>();
  DEJA_ASSIGN(Writes writes, from_bytes<Writes>(kVersion, "a list of writes", answer.merged));
  return std::move(writes.all);
}

}  // namespace

Result<std::vector<MemoryPiece>> locate(const GuestView& memory, u64 address, u64 size) {
  const GuestRam& ram = memory.machine().ram();
  if (memory.is_physical()) {
    if (!ram.contains(Gpa(address), size))
      return make_error("physical memory {:#x}/{} is not RAM, which ends at {:#x}", address, size, ram.end());
    return std::vector<MemoryPiece>{{Gpa(address), size}};
  }
  std::vector<MemoryPiece> pieces;
  for (u64 done = 0; done < size;) {
    const Gva linear(address + done);
    const u64 n = std::min(size - done, kPageSize - linear.offset());
    const std::optional<Gpa> at = memory.translate(linear.value);
    if (!at)
      return make_error("address {:#x} is not mapped at step {} in the address space with CR3 {:#x}",
                        linear.value, format_count(memory.machine().clock().steps), memory.table());
    if (!ram.contains(*at, n))
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
