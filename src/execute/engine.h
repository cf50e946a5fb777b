// Runs vCPUs: finds or makes translated blocks, enters them, and handles whatever they leave for C++.
//
// One Engine serves all vCPUs of a machine, one at a time. What it caches (blocks, TLBs) is never visible to
// the guest. A process may have several engines; each runs on one host thread at a time, any of them, and a
// thread may run one after the other. The context, which translated code and the host's signals lead to,
// knows its engine.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "execute/bounce_access.h"
#include "execute/cache/code_cache.h"
#include "execute/chaos.h"
#include "execute/engine_counters.h"
#include "execute/host/host_signals.h"
#include "execute/observation.h"
#include "execute/platform_gate.h"
#include "execute/step_trap.h"
#include "execute/thunks.h"
#include "execute/tlb/address_space.h"
#include "guest/canonical.h"
#include "semantics/vcpu.h"
#include "translate/translator.h"

namespace deja {

struct EngineOptions {
  u64 code_cache_bytes = 64_MiB;
  TranslateOptions translate;
  bool perf_map = false;  // at the end, tell perf what the translated code is (perf_map.h)
  EngineChaos chaos;
  // Blocks translated for this linear address are logged, category translate: --log=translate:block=ADDR.
  std::optional<u64> list_block;
};

enum class RunStop : u8 {
  budget,    // reached `until`
  event,     // the machine's devices were touched: deadlines and interrupt lines may have changed
  inactive,  // the vCPU halted, waits for SIPI or shut down
  pause,     // a run of PAUSEs: an SMP guest spins, give its quantum to another
  observed,  // at a debugger's breakpoint
};

class Engine final : public Mmu, private RamObserver {
 public:
  // All references must outlive the engine. `clock.steps` advances as the guest runs.
  static Result<std::unique_ptr<Engine>> create(GuestRam& ram, Platform& platform, Clock& clock,
                                                const CpuModel& model, unsigned vcpu_count,
                                                const EngineOptions& options);
  ~Engine() override;

  // Runs `cpu` until clock.steps == until or a reason to stop earlier. Never goes past `until`.
  RunStop run(CpuState& cpu, Step until);

  // While run() is on the stack the state handed to it is stale; this is the current one.
  bool running(unsigned vcpu) const { return run_.active && ctx_->state.index == vcpu; }
  const CpuState& live_state() const { return ctx_->state; }

  // What to stop at, from now on. Not while run() is on the stack. To be called again when RAM was replaced
  // as a whole, since a watchpoint knows the bytes that it watches.
  void observe(ObservationSpec spec);
  Observation& observation() { return observation_; }
  const Observation& observation() const { return observation_; }
  // What writes of devices to memory are put down to, from now on.
  void set_device_cause(AccessCause cause) { causes_.device = cause; }

  // Exceptions and interrupts delivered so far, each a step.
  u64 deliveries() const { return counters_.faults; }

  EngineCounters counters() const;
  // Where the machine adds the time that its digests take.
  u64* digest_ns() { return &counters_.digest_ns; }
  // Drops all translated code and TLBs.
  void flush_caches();
  // The window to video memory has moved: what was cached of addresses is no longer true.
  void memory_map_changed();

  // Mmu
  void read_bytes(Gva address, void* out, unsigned size, Rights rights) override {
    read_linear(linear(address), out, size, rights);
  }
  void read_bytes(SystemGva address, void* out, unsigned size, Rights rights) override {
    read_linear(linear(address), out, size, rights);
  }
  void write_bytes(Gva address, const void* data, unsigned size, Rights rights) override {
    write_linear(linear(address), data, size, rights);
  }
  void write_bytes(SystemGva address, const void* data, unsigned size, Rights rights) override {
    write_linear(linear(address), data, size, rights);
  }
  void probe(Gva address, unsigned size, Access access, Rights rights) override {
    probe_linear(linear(address), size, access, rights);
  }
  void probe(SystemGva address, unsigned size, Access access, Rights rights) override {
    probe_linear(linear(address), size, access, rights);
  }
  unsigned fetch(Gva address, u8* out, unsigned size) override;
  bool read_physical(Gpa address, void* out, unsigned size) override {
    return ram_.read(ram_.resolve(address), out, size);
  }
  void paging_changed() override { space_.selected = nullptr; }
  const u8* map_read(Gva address, unsigned size) override;
  u8* map_write(Gva address, unsigned size) override;

 private:
  Engine(GuestRam& ram, Platform& platform, Clock& clock, const CpuModel& model,
         const EngineOptions& options);
  Status init();
  void make_thunks();

  // RamObserver: DMA and other writes that have happened already.
  void tracked_page_written(Gpa address, u64 size) override;
  void walk_marked(Gpa entry) override;
  void dirty_marks_cleared() override { spaces_.drop_all_writable(); }
  void pages_made_absent() override { spaces_.drop_absent(); }

  // --- out-of-line entries from translated code: `site` is what ecx held, `r9` an address as CodeTargets
  // says. They return the host address to go on at, or 0 to leave the run.
  template <u64 (Engine::*kEntry)(u32 site, u64 r9)>
  static u64 enter(ExecContext* context, u64 site, u64 r9);
  u64 mem_slow(u32 site, u64 r9);
  u64 mem_commit(u32 site, u64 r9);
  u64 run_helper(u32 site, u64 r9);
  u64 link(u32 site, u64 r9);
  u64 far_link(u32 site, u64 pc);
  u64 jump_missed(u32 branch, u64 pc);
  u64 removed(u32 site, u64 pc);
  u64 expired(u32 block, u64 r9);
  u64 host_fault(u32 site, u64 r9);
  u64 quick_done(u32 site, u64 r9);
  u64 depart(u64 code);  // status flags from state.rflags; returns `code`
  // Goes on amid the code of a block.
  u64 resume_in(const Block& block, u32 offset);

  // --- engine_slow_access.cc
  // The access of a memory site in progress.
  struct SlowAccess {
    u32 id;
    const MemSite& site;
    const Block& block;
    i64 entered;  // steps left when C++ was called
  };
  // What the access raises before its page is looked for; else sets *linear. `offset` is within the segment
  // when the site is checked.
  std::optional<GuestFault> check_access(const SlowAccess& a, u64 offset, Gva* linear) const;
  static bool misaligned(const MemSite& site, const Block& block, Gva linear);
  u64 fail_access(const SlowAccess& a, const GuestFault& fault);
  // The physical page behind `at`, which fills the TLB. False: the access raises *fault.
  bool find_operand_page(const SlowAccess& a, Gva at, bool crosses, Gpa* page, GuestFault* fault);
  // Whether the instruction can go on inline, now that the TLB has its page.
  bool found_inline(const SlowAccess& a, Gva linear, bool crosses);
  void count_slow_access(const SlowAccess& a, Gpa page, bool crosses);
  // The site's instruction goes on with its operand on the bounce buffer.
  u64 run_on_bounce(u32 site);
  // The instruction that follows that of a site, and leaving its block before it.
  Gva pc_behind(const MemSite& site, const Block& block);
  u64 leave_behind(const MemSite& site, const Block& block);
  // Whether all that the first access of a group looks up is in the TLB.
  bool group_cached(const MemSite& site, Gva linear, View view);
  // Goes on, from this instruction, with a block that has no groups.
  u64 leave_group(u32 site);

  // Translated code jumps to `pc`, from a branch site or kNone.
  u64 jump(Gva pc, u32 branch, DispatchCause cause);
  // The host found an exception of the guest's instruction.
  GuestFault fault_of_host(const Block& block, const MemSite* access, Gva address) const;

  void use_tables(const AddressSpace& space);
  // What has to be known of the vCPU and its machine until this step, or a device is touched.
  void begin_stretch(Step until);
  // That it has not gone beyond that step: a turn, a timer or an input that came late would depend on how
  // code was divided into blocks.
  void check_limit() const;
  // The run would end here, but the machine lets the same vCPU go on.
  bool goes_on();

  // --- engine_dispatch.cc
  // The next instruction to be fetched.
  struct Fetch {
    Gva pc;
    unsigned limit = 0;     // the most instructions that its block may have, or 0: no limit
    bool observed = false;  // a debugger's breakpoints are in its page
  };
  // The next thing to execute; 0 leaves the run.
  u64 dispatch(DispatchCause cause);
  std::optional<RunStop> reason_to_leave();
  // These deliver an event, a fault of the fetch or a breakpoint, one step, and say whether they have.
  bool deliver_pending_event();
  bool fault_on_fetch(Fetch* fetch);
  bool hit_code_breakpoint(Fetch* fetch);
  bool stops_at_breakpoint(Fetch* fetch);
  // 0 after a fault was delivered.
  u64 enter_block(const Fetch& fetch, DispatchCause cause);
  BlockId block_for(const Fetch& fetch, DispatchCause cause, BlockMode plain);
  // Whether the instruction at `pc` ends within `room` bytes, the rest of the code segment.
  bool instruction_fits(Gva pc, unsigned room);
  // Single-stepping begins the one instruction of `block` at `pc`.
  void note_step(Gva pc, const Block& block);

  // Finds or translates the block at `pc`; kNone after a fault was delivered.
  BlockId find_block(Gva pc, BlockMode mode);
  // The physical page to fetch from; false after a fault was delivered.
  bool fetch_page(Gva linear, View view, Gpa* page);
  BlockId find_crossing_block(Gva pc, Gpa at, BlockMode mode, BlockId found);
  BlockId translate_at(Gva pc, Gpa at, BlockMode mode, std::span<const u8> bytes, Gpa second_page,
                       bool* need_next);
  void note_new_block(BlockId id, Gva pc, Gpa second_page);
  void evict_code();
  void invalidate_code(Gpa address, u64 size);

  // --- engine_memory.cc
  // Physical memory, in one page: RAM, with all that depends on it, or devices.
  void load(Gpa at, u8* to, unsigned size, AccessCause cause);
  void store(Gpa at, const u8* from, unsigned size, AccessCause cause);
  void write_ram(Gpa at, const void* data, u64 size, AccessCause cause);
  // To be called after an access to a page with GuestRam::kWatched.
  void note_access(Gpa at, u64 size, bool write, AccessCause cause);
  // The cause of a write through linear addresses that no operand names, by where it goes.
  AccessCause implicit_cause(Gva linear, Rights rights) const;

  // Accounting: the instruction with index `insn`, for which the counter has paid (Block::prepaid), is the
  // next to complete; clock.steps becomes the number of steps before it.
  void sync_to(const Block& block, unsigned insn);
  void set_rip(const Block& block, unsigned insn);
  // Delivers `fault` at state.rip: one step.
  void raise(const GuestFault& fault, EventKind kind = EventKind::fault);
  void update_clock() { clock_.steps = ctx_->end_step - static_cast<u64>(ctx_->remaining()); }

  // Where an access begins, and the bits that its addresses have. Everything that looks into a TLB or walks
  // page tables for C++ takes one of these, so that a hit and a miss mean the same address.
  struct Linear {
    Gva from;
    u64 mask;  // all bits, or the low 32
    bool wide() const { return mask == ~u64{0}; }
    Gva after(u64 bytes) const { return Gva((from.value + bytes) & mask); }
    unsigned in_page() const { return static_cast<unsigned>(kPageSize - from.offset()); }
  };
  static Linear linear(u64 address, bool wide) {
    const u64 mask = wide ? ~u64{0} : 0xffffffff;
    return {Gva(address & mask), mask};
  }
  Linear linear(Gva operand) const { return linear(operand.value, ctx_->state.mode64()); }
  Linear linear(SystemGva a) const { return linear(a.value, ctx_->state.long_mode_active()); }
  // Where an access of at most a page stands. Throws its page fault.
  struct TwoParts {
    Gpa at[2];
    unsigned size[2];
  };
  TwoParts find_parts(Linear at, unsigned size, Access access, View view);
  void read_linear(Linear at, void* out, unsigned size, Rights rights);
  void write_linear(Linear at, const void* data, unsigned size, Rights rights);
  void probe_linear(Linear at, unsigned size, Access access, Rights rights);

  View view_for(Rights rights) const;
  AddressSpace& space();
  // Physical page for an access; installs it for inline use when it is RAM. False: *error is the #PF code.
  bool translate(Gva linear, Access access, View view, Gpa* page, u32* error);
  u8* cached(Gva linear, bool write, View view) {
    ViewTables& t = space().tables->view[static_cast<unsigned>(view)];
    const u64 slot = page_slot(linear);
    const u64 tag = write ? t.write_tag[slot] : t.read_tag[slot];
    return tag + linear.page().value == 0 ? reinterpret_cast<u8*>(t.addend[slot] + linear.value) : nullptr;
  }
  void check_canonical(Linear at, unsigned size) const;
  void note_data_access(Linear at, unsigned size, bool write);
  // The linear address of the instruction at RIP, and the RIP of that at a linear address.
  Gva linear_pc() const {
    const CpuState& s = ctx_->state;
    return Gva(s.mode64() ? s.rip : (s.seg[CS].base + s.rip) & 0xffffffff);
  }
  u64 rip_of(Gva pc) const {
    const CpuState& s = ctx_->state;
    return s.mode64() ? pc.value : (pc.value - s.seg[CS].base) & 0xffffffff;
  }

  void disturb();

  GuestRam& ram_;
  Clock& clock_;
  const CpuModel& model_;
  EngineOptions options_;
  Chaos chaos_;
  // The run in progress.
  struct {
    bool active = false;               // run() is on the stack
    bool stop_requested = false;       // leave it after this instruction
    RunStop reason = RunStop::budget;  // …for which
    bool dropped = false;              // translations or code changed: leave the block after this instruction
  } run_;
  PlatformGate gate_;
  AddressSpaces spaces_;
  CodeCache cache_;
  Observation observation_;
  Thunks thunks_;
  std::unique_ptr<Translator> translator_;
  ExecContext* ctx_ = nullptr;
  std::unique_ptr<Vcpu> vcpu_;
  std::optional<HostSignalRoute> signals_;
  struct {
    AddressSpace* selected = nullptr;           // of ctx_->state; nullptr: to be selected anew
    const AddressSpaceTables* in_gs = nullptr;  // what the host's GS base points at
  } space_;
  // The cause of a write to memory that no instruction's operand names.
  struct {
    AccessCause device = AccessCause::device;
    bool delivering = false;  // an exception or interrupt: its frame is being pushed
  } causes_;
  StepTrap step_trap_;
  BounceAccess bounce_;
  Step last_expired_ = 0;  // when a block's head last found the counter run out
  EngineCounters counters_;
};

}  // namespace deja
