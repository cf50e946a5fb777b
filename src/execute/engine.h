// Runs vCPUs: finds or makes translated blocks, enters them, and handles whatever they leave for C++.
//
// One Engine serves all vCPUs of a machine, one at a time on one host thread. What it caches (blocks, TLBs)
// is never visible to the guest.
#pragma once

#include <memory>
#include <optional>

#include "execute/address_space.h"
#include "execute/code_cache.h"
#include "execute/engine_counters.h"
#include "execute/observation.h"
#include "execute/thunks.h"
#include "execute/vcpu.h"
#include "translate/translator.h"

namespace deja {

// Disturbs everything that must not matter, from a seed: proof of rule 3 (docs/determinism.md).
struct EngineChaos {
  bool enabled = false;
  u64 seed = 0;
};

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
  // Asks the current or next run() to stop after the instruction in progress. Only from the engine's thread.
  void stop_soon() { stop_requested_ = true; }

  // While run() is on the stack the state handed to it is stale; this is the current one.
  bool running(unsigned vcpu) const { return running_ && ctx_->state.index == vcpu; }
  const CpuState& live_state() const { return ctx_->state; }

  // What to stop at, from now on. Not while run() is on the stack. To be called again when RAM was replaced
  // as a whole, since a watchpoint knows the bytes that it watches.
  void observe(ObservationSpec spec);
  Observation& observation() { return observation_; }
  const Observation& observation() const { return observation_; }
  // Whose doing device writes to memory are from now on.
  void set_device_cause(AccessCause cause) { device_cause_ = cause; }

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
  void paging_changed() override { space_ = nullptr; }
  const u8* map_read(Gva address, unsigned size) override;
  u8* map_write(Gva address, unsigned size) override;

 private:
  // Forwards to the machine, with the clock exact, and notes that devices were touched.
  class Gate final : public Platform {
   public:
    Gate(Engine& engine, Platform& target) : engine_(engine), target_(target) {}
    u32 port_read(u16 port, unsigned size) override { return touch(), target_.port_read(port, size); }
    void port_write(u16 port, u32 value, unsigned size) override {
      touch(), target_.port_write(port, value, size);
    }
    u64 mmio_read(unsigned v, Gpa a, unsigned size) override {
      return touch(), target_.mmio_read(v, a, size);
    }
    void mmio_write(unsigned v, Gpa a, u64 x, unsigned size) override {
      touch(), target_.mmio_write(v, a, x, size);
    }
    u64 cr8_read(unsigned v) override { return target_.cr8_read(v); }
    void cr8_write(unsigned v, u64 x) override { touch(), target_.cr8_write(v, x); }
    bool apic_msr_read(unsigned v, u32 msr, u64* x) override {
      return touch(), target_.apic_msr_read(v, msr, x);
    }
    bool apic_msr_write(unsigned v, u32 msr, u64 x) override {
      return touch(), target_.apic_msr_write(v, msr, x);
    }
    void apic_base_written(unsigned v, u64 x) override { touch(), target_.apic_base_written(v, x); }
    bool interrupt_pending(unsigned v) override { return target_.interrupt_pending(v); }
    int acknowledge_interrupt(unsigned v) override { return target_.acknowledge_interrupt(v); }
    u64 tsc() override { return target_.tsc(); }
    GuestCallAnswer guest_call(std::string_view line) override { return touch(), target_.guest_call(line); }
    std::optional<Step> go_on(CpuState& cpu, bool spins) override { return target_.go_on(cpu, spins); }

   private:
    void touch() { engine_.stop_requested_ = true; }
    Engine& engine_;
    Platform& target_;
  };

  Engine(GuestRam& ram, Platform& platform, Clock& clock, const CpuModel& model, unsigned vcpu_count,
         const EngineOptions& options);
  Status init();

  // RamObserver: DMA and other writes that have happened already.
  void tracked_page_written(Gpa address, u64 size) override;
  void walk_marked(Gpa entry) override;
  void dirty_marks_cleared() override { spaces_.drop_all_writable(); }
  void pages_made_absent() override { spaces_.drop_absent(); }

  // --- out-of-line entries from translated code
  static u64 enter_mem_slow(ExecContext*, u64 site, u64 r9);
  static u64 enter_mem_commit(ExecContext*, u64 site, u64 r9);
  static u64 enter_helper(ExecContext*, u64 site, u64 r9);
  static u64 enter_link(ExecContext*, u64 site, u64 r9);
  static u64 enter_far_link(ExecContext*, u64 site, u64 r9);
  static u64 enter_dispatch(ExecContext*, u64 site, u64 r9);
  static u64 enter_removed(ExecContext*, u64 site, u64 r9);
  static u64 enter_expired(ExecContext*, u64 site, u64 r9);
  static u64 enter_host_fault(ExecContext*, u64 site, u64 r9);
  static u64 enter_quick_done(ExecContext*, u64 site, u64 r9);
  u64 depart(u64 code);  // status flags from state.rflags; returns `code`
  // Goes on amid the code of a block.
  u64 resume_in(const Block& block, u32 offset);
  u64 mem_slow(u32 site, u64 address);
  u64 mem_commit(MemSite& site);
  static bool misaligned(const MemSite& site, const Block& block, u64 linear);
  // A store whose address faults, by an instruction that first raises exceptions of its own: with an unmasked
  // one, x87 stores do not touch memory at all. So it is tried on the bounce buffer before the fault is
  // raised.
  static bool store_may_be_suppressed();
  u64 try_before_fault(u32 site, i64 entered, const GuestFault& fault);
  // The site's instruction goes on with its operand on the bounce buffer.
  u64 run_on_bounce(u32 site);
  u64 run_helper(u32 site);
  u64 link(u32 site);
  u64 far_link(u32 site, u64 pc);
  // Translated code jumps to linear `pc`, from a branch site or kNone.
  u64 jump(u64 pc, u32 branch, DispatchCause cause);
  u64 host_fault(u64 r9);
  // Whether all that the first access of a group looks up is in the TLB.
  bool group_cached(const MemSite& site, Gva linear, View view);
  // Goes on, from this instruction, with a block that has no groups.
  u64 leave_group(u32 site);

  void use_tables(const AddressSpace& space);
  // What has to be known of the vCPU and its machine until this step, or a device is touched.
  void begin_stretch(Step until);
  // That it has not gone beyond that step: a turn, a timer or an input that came late would depend on how
  // code was divided into blocks.
  void check_limit() const;
  // The run would end here, but the machine lets the same vCPU go on.
  bool goes_on();
  // The next thing to execute; 0 leaves the run.
  u64 dispatch(DispatchCause cause);
  // Finds or translates the block at linear `pc`; kNone after a fault was delivered.
  BlockId find_block(u64 pc, BlockMode mode);
  BlockId translate_at(u64 pc, Gpa at, BlockMode mode, const u8* bytes, unsigned size, Gpa second_page,
                       bool* need_next);
  void invalidate_code(Gpa address, u64 size);
  void write_ram(Gpa at, const void* data, u64 size, AccessCause cause);
  // To be called after an access to a page with GuestRam::kWatched.
  void note_access(Gpa at, u64 size, bool write, AccessCause cause);
  // Of a write through linear addresses that no operand names, by where it goes.
  AccessCause implicit_cause(Gva linear, Rights rights) const;

  // Accounting: the instruction with index `insn`, for which the counter has paid (Block::prepaid), is the
  // next to complete; clock.steps becomes the number of steps before it.
  void sync_to(const Block& block, unsigned insn);
  void set_rip(const Block& block, unsigned insn);
  // Whether the instruction at linear `pc` ends within `room` bytes, the rest of the code segment.
  bool instruction_fits(u64 pc, unsigned room);
  // Single-stepping begins the one instruction of `block` at linear `pc`.
  void note_step(u64 pc, const Block& block);
  i64 steps_left() const { return ctx_->remaining(); }
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
  void read_linear(Linear at, void* out, unsigned size, Rights rights);
  void write_linear(Linear at, const void* data, unsigned size, Rights rights);
  void probe_linear(Linear at, unsigned size, Access access, Rights rights);

  View view_for(Rights rights) const;
  AddressSpace& space();
  // Physical page for an access; installs it for inline use when it is RAM. False: *error is the #PF code.
  bool translate(Gva linear, Access access, View view, Gpa* page, u32* error);
  u8* cached(Gva linear, bool write, View view) {
    ViewTables& t = space().tables->view[static_cast<unsigned>(view)];
    const u64 slot = page_slot(linear.value);
    const u64 tag = write ? t.write_tag[slot] : t.read_tag[slot];
    return tag + linear.page().value == 0 ? reinterpret_cast<u8*>(t.addend[slot] + linear.value) : nullptr;
  }
  static void check_canonical(Linear at, unsigned size);
  void note_data_access(Linear at, unsigned size, bool write);
  // The linear address of the instruction at RIP, and the RIP of that at a linear address.
  u64 linear_pc() const {
    const CpuState& s = ctx_->state;
    return s.mode64() ? s.rip : (s.seg[CS].base + s.rip) & 0xffffffff;
  }
  u64 rip_of(u64 pc) const {
    const CpuState& s = ctx_->state;
    return s.mode64() ? pc : (pc - s.seg[CS].base) & 0xffffffff;
  }

  u64 chaos() {
    chaos_state_ ^= chaos_state_ << 13;
    chaos_state_ ^= chaos_state_ >> 7;
    return chaos_state_ ^= chaos_state_ << 17;
  }
  void disturb();
  void poison();

  GuestRam& ram_;
  Clock& clock_;
  const CpuModel& model_;
  EngineOptions options_;
  const TranslateOptions asked_;  // what is off here stays off in chaos mode
  Gate gate_;
  AddressSpaces spaces_;
  CodeCache cache_;
  Observation observation_;
  Thunks thunks_;
  std::unique_ptr<Translator> translator_;
  ExecContext* ctx_ = nullptr;
  std::unique_ptr<Vcpu> vcpu_;
  AddressSpace* space_ = nullptr;                // of ctx_->state; nullptr: to be selected anew
  const AddressSpaceTables* gs_base_ = nullptr;  // what the host's GS base points at
  bool running_ = false;
  Step last_expired_ = 0;  // when a block's head last found the counter run out
  bool stop_requested_ = false;
  bool delivering_ = false;  // an exception or interrupt: its frame is being pushed
  AccessCause device_cause_ = AccessCause::device;
  bool dropped_ = false;    // translations or code changed: leave the block after this instruction
  bool step_trap_ = false;  // RFLAGS.TF was set when the instruction in progress began
  static constexpr u64 kNoRip = u64{1} << 63;  // no instruction starts there
  u64 step_over_[2] = {kNoRip, kNoRip};        // where RIP must not be after it for the trap to be taken
  RunStop stop_reason_ = RunStop::budget;
  EngineCounters counters_;
  u64 chaos_state_ = 0;

  // The access on the bounce buffer between mem_slow and mem_commit.
  struct Part {
    Gpa at;
    unsigned size = 0;
  } parts_[2];
  unsigned part_count_ = 0;
  std::optional<GuestFault> deferred_fault_;  // of try_before_fault
  FpuState x87_before_;
};

}  // namespace deja
