// Turns guest instructions at one physical address into a block of host code, in three stages: form.h decodes
// them and says where the block ends, plan.h says which memory accesses are checked together, and Translator
// emits.
//
// A block begins with the way out when the counter does not suffice (kExpiredBytes), then the far entry (r9 =
// linear PC; sets ExecContext::current_page), then the near entry (for jumps inside the page), which probes
// the step counter and takes the steps of the block, or of its first part, off it. Then come the
// instructions, then the out-of-line parts: slow paths and link stubs.
#pragma once

#include <set>
#include <vector>

#include "translate/block.h"
#include "translate/emitter.h"
#include "translate/exec_context.h"
#include "translate/plan.h"

namespace deja {

// Host addresses that emitted code refers to.
struct CodeTargets {
  u64 context = 0;     // ExecContext
  u64 probe_base = 0;  // read at probe_base + (steps left >> 6); unmapped below: below 2 GiB
  u64 page_probe = 0;  // a byte that can be read, before 64 GiB that cannot: below 2 GiB. 0: there is none
  u64 cache_exec = 0;  // start of the code cache as executed
  // Out of line entries into C++; ecx = site id unless said otherwise.
  u64 mem_slow = 0;    // r9 = address
  u64 mem_commit = 0;  // after the copy of the instruction has run on the bounce buffer
  u64 helper = 0;
  u64 quick = 0;         // a helper that has a quick way (translate/quick.h)
  u64 load_vectors = 0;  // rcx = where to go on
  u64 link = 0;
  u64 far_link = 0;           // r9 = linear PC, ecx = far link
  u64 far_jump[kViews] = {};  // the same, by way of the jump cache
  u64 dispatch = 0;           // r9 = linear PC, ecx = branch site or kNone
  u64 jump_miss = 0;          // the same, when the jump cache was looked into
  u64 removed = 0;            // r9 = linear PC, ecx = perhaps the far link that leads here
  u64 expired = 0;            // ecx = block whose head found too few steps left
};

// Where a block goes: the main code at `hot`, what is seldom run at `cold`; offsets in the code cache, whose
// writable mapping is at `write`.
struct CodeSpace {
  u8* write = nullptr;
  unsigned region = 0;
  u32 hot = 0, cold = 0;
  u64 hot_room = 0, cold_room = 0;
};

enum class TranslateStatus : u8 {
  ok,
  need_next_page,  // the first instruction crosses the page end and `bytes` does not
  cache_full,
};

// Looks for the linear PC in r9 in the view's jump cache. Changes rcx and r10. The short jump to be landed at
// emit_jump_hit() is taken when it is there.
u8* emit_jump_lookup(Emitter& e, View view);
// Goes where the lookup found.
void emit_jump_hit(Emitter& e, View view);

class Translator {
 public:
  Translator(CodeStore& store, const CodeTargets& targets, const TranslateOptions& options)
      : store_(store), targets_(targets), options_(options), e_(nullptr, 0) {}

  // On ok, *out is the new block's id; its `end` and `cold_end` say how much of `space` it has taken.
  TranslateStatus translate(const TranslateInput& input, const CodeSpace& space, BlockId* out);

  // Emits, as cold code, what the slow path of a memory site runs on its bounce buffer: the copies of its
  // instruction, one for each access. Takes kMaxSpecialCode bytes at the most; returns what they are.
  SpecialCopy emit_special_copies(u32 site, const CodeSpace& space);
  // The out-of-line call of the slow path for a site whose lookup branches when it misses. Likewise; the end.
  u32 emit_miss_stub(u32 site, const CodeSpace& space);
  // The same where a group's lookup shall lead to a block without groups, by a direct link.
  u32 emit_leave_stub(u32 site, const CodeSpace& space);
  bool can_leave_directly(const MemSite& site) const;

  // From now on this block is translated without groups (plan.h), as they miss too often.
  void avoid_groups(Gpa pc, BlockMode mode) { ungrouped_.insert(key(pc, mode)); }
  // From now on this block, a small loop, is translated unrolled.
  void unroll(Gpa pc, BlockMode mode) { unrolled_.insert(key(pc, mode)); }

  TranslateOptions& options() { return options_; }
  // The instructions of the last block translated.
  const std::vector<BlockInsn>& insns() const { return insns_; }
  // Which parts of its cold code belong to which instruction.
  struct ColdMark {
    u32 host_offset;
    u16 insn;
  };
  const std::vector<ColdMark>& cold_marks() const { return cold_marks_; }
  // Room that one block may need at most, of either kind; and the copies of one instruction.
  static constexpr u64 kMaxBlockCode = 32 * 1024;
  static constexpr u64 kMaxSpecialCode = 512;

  // In front of the far entry: mov ecx, block id; jmp expired.
  static constexpr unsigned kExpiredBytes = 10, kBlockIdOffset = 1;
  static constexpr unsigned kFarEntryBytes = 14;
  // From the near entry to the check of the counter, and to the probing load, its second instruction.
  static constexpr unsigned kCheckOffset = 7, kProbeOffset = 12, kProbeBytes = 8;
  // Lets a block's head jump to `expired` where its probe would fault. `near_entry`: where it is written.
  static void emit_branching_check(u8* near_entry, bool in_parts);

 private:
  static u64 key(Gpa pc, BlockMode mode) {
    return pc.value ^ u64 { mode.bits } << 32;
  }
  u64 ctx(std::size_t field_offset) const { return targets_.context + field_offset; }
  u64 gpr_slot(unsigned g) const { return ctx(g * 8); }
  u32 offset_of(const u8* at) const { return static_cast<u32>(at - cache_write_); }

  void emit_entries();
  // Before an instruction of the host that touches vector registers.
  void need_vectors();
  void emit_insn(const BlockInsn& b);
  void emit_helper(const Insn& insn, bool ends, QuickOp quick, u8 raise = kNoVector);

  // Guest register -> host register; r8-r11 are loaded into `scratch` first.
  unsigned load_gpr(unsigned guest, unsigned scratch);
  void store_gpr(unsigned guest, unsigned host);
  bool access_is_checked(unsigned segment) const;

  // --- access.cc
  // r9 = linear address (or segment offset when the access is checked) of the memory operand plus `bias`.
  void emit_address(const Insn& insn, i32 bias = 0);
  // How the address of an access is got: as an operand, or off the stack or frame pointer.
  struct Address {
    const Insn* operand = nullptr;  // else base and disp
    unsigned base = 0;              // host register
    i32 disp = 0;                   // with an operand: added to it
  };
  void emit_address(const Address& a, i32 bias);
  // The host register to which an access can add r10 and a displacement, or -1.
  int direct_base(const Address& a, i32* disp) const;

  struct AccessSpec {
    u8 size = 0;
    bool read = false, write = false;
    u8 segment = DS;
    u8 align = 0;
    AfterSite after = AfterSite::next_insn;
    i32 target = 0;
    bool waits_fpu = false, mmx_store = false, converts = false, x87_store = false;
  };
  // Emits the lookup and the current instruction's operation on the memory at [mem_base_ + r10 + mem_disp_].
  void emit_access(const Address& address, const AccessSpec& spec);
  // That operation, of the nth access of an instruction.
  void emit_access_op(const BlockInsn& b, unsigned nth);
  // r9 = `size` bytes, for what the instruction goes on to do with them.
  void load_to_r9(const Address& address, u8 size, u8 segment);
  // Before r10 changes: an addend that is still wanted goes to its group's slot.
  void lose_r10();
  void emit_slow_call(u32 site, const MemSite& s);
  // The bytes from host register `at` on, the last of them `reach` behind it; r10 = addend.
  void emit_lookup(unsigned at, u8 reach, bool write, MemSite& site, u8** miss);
  // ModRM, SIB and displacement for the memory operand of the op; and its REX bits.
  void emit_mem(unsigned reg);
  u8 mem_rex(unsigned reg, bool wide) const {
    return static_cast<u8>(0x42 | (wide ? 8 : 0) | (reg >> 3) << 2 | mem_base_ >> 3);
  }
  // mov between `reg` and the memory operand; 2, 4 or 8 bytes. A load of 2 bytes merges.
  void load_mem(unsigned reg, unsigned size);
  void store_mem(unsigned reg, unsigned size);

  // --- rewrite.cc
  // The guest instruction itself with registers renamed; its memory operand is at [mem_base_ + r10 +
  // mem_disp_].
  void emit_op(const Insn& insn);
  // Guest r8-r11 live in memory: an instruction on one of them can name its slot as its memory operand.
  bool emit_on_slots(const Insn& insn);
  struct CarriedOp;
  struct EncodedFields;
  CarriedOp place_operands(const Insn& insn);
  // Gives each register operand its host register, with its value in it.
  void assign_registers(CarriedOp& op);
  void emit_encoding(const Insn& insn, CarriedOp& op);
  void emit_legacy_encoding(const Insn& insn, const CarriedOp& op, const EncodedFields& f);
  void emit_modrm(const Insn& insn, const CarriedOp& op, const EncodedFields& f);
  // What the instruction wrote becomes the guest's.
  void write_back(const Insn& insn, CarriedOp& op);
  void exchange_with_r9(unsigned host);

  // --- flag_fixes.cc: emit_op(), and what mends the undefined flags
  void emit_carried_op(const BlockInsn& b) { b.fix_flags ? emit_fixed_op(b.insn) : emit_op(b.insn); }
  void emit_fixed_op(const Insn& insn);
  void emit_fixed_shift(const Insn& insn);
  void emit_fixed_rotate(const Insn& insn);
  void emit_fixed_multiply(const Insn& insn);
  void emit_fixed_divide(const Insn& insn);
  void emit_fixed_scan(const Insn& insn);
  void emit_fixed_count(const Insn& insn);
  void emit_fixed_bmi(const Insn& insn);
  // The host register with the general register `o`; r9 if that stands in a slot.
  unsigned result_of(const Operand& o);
  // A jump for land() that is taken when the count in CL is 0 for operands of `size` bytes.
  u8* skip_if_count_is_0(unsigned size);
  void load_mem_zero_extended(unsigned reg, unsigned size);
  void compare_mem_with_0(unsigned size);

  // --- data_ops.cc
  void emit_carried(const Insn& insn);
  void emit_lea(const Insn& insn);
  void emit_moffs(const Insn& insn);
  void emit_push(const Insn& insn);
  void emit_pop(const Insn& insn);
  void emit_leave(const Insn& insn);
  // What these do with the memory operand.
  void op_moffs(const Insn& insn);
  void op_push(const Insn& insn);
  void op_pop(const Insn& insn);
  void op_leave(const Insn& insn);

  // --- control.cc
  void emit_jump(const Insn& insn);
  void emit_jcc(const Insn& insn);
  void emit_call(const Insn& insn);
  void emit_ret(const Insn& insn);
  void emit_loop(const Insn& insn);
  void op_call();
  void op_ret(const Insn& insn);
  i32 popped_by_ret(const Insn& insn) const;
  // Leave the block for a PC relative to the current page. `branch`: the site of the jump that goes there,
  // when the target can lie outside the canonical addresses.
  void exit_to(i32 target, u32 branch = kNone);
  // Leave for the linear PC in r9.
  void exit_indirect(u32 branch);
  u32 branch_site(i32 popped = 0);
  void jcc_to(unsigned condition, i32 target);
  bool links_to(i32 target) const;
  bool has_far_links() const;
  // A link site whose rel32 is at `patch`.
  void link_at(u8* patch, i32 target);
  bool last() const { return current_insn_ + 1u == block_.count; }
  // How many steps are off the counter of instructions that follow the current one.
  unsigned rest() const { return block_.prepaid(current_insn_) - 1; }
  void take_steps(unsigned steps);
  void note_parts();  // Block::parts

  // Cold code to emit when the main code is complete. All are reached by a rel32 at `patch`.
  struct Cold {
    enum class Kind : u8 {
      link_stub,  // of link site `site`
      side_exit,  // gives back what steps of skipped instructions are off the counter, and goes to `target`
      miss,       // the slow path of memory site `site`
    } kind;
    u16 insn;
    u32 site;  // side_exit: branch site, or kNone
    i32 target;
    u8* patch;
  };
  void deferred(Cold::Kind kind, u32 site, u8* patch, i32 target = 0) {
    cold_.push_back({kind, current_insn_, site, target, patch});
  }
  void emit_cold(const Cold& c);
  // Makes the rel32 at `patch` lead to what is emitted next.
  void land32(u8* patch) {
    const u32 displacement = static_cast<u32>(e_.p - (patch + 4));
    std::memcpy(patch, &displacement, 4);
  }
  void enter_insn(unsigned index);

  CodeStore& store_;
  std::set<u64> ungrouped_, unrolled_;  // by key()
  CodeTargets targets_;
  TranslateOptions options_;

  // The block in progress.
  Emitter e_;
  u8* cache_write_ = nullptr;
  unsigned region_ = 0;
  BlockId id_ = 0;
  BlockMode mode_;
  Block block_;
  std::vector<BlockInsn> insns_;
  const BlockInsn* insn_ = nullptr;  // being translated
  u16 current_insn_ = 0;             // its index
  unsigned insn_end_ = 0;            // page offset of the one behind it
  unsigned access_ = 0;              // how many of its accesses are emitted
  unsigned mem_base_ = HR9;          // the op's memory operand is at [mem_base_ + r10 + mem_disp_]
  i32 mem_disp_ = 0;
  i8 r10_group_ = -1;        // the group whose addend r10 holds
  unsigned r10_wanted_ = 0;  // by so many accesses that follow, while the group's slot does not have it
  std::vector<Cold> cold_;
  std::vector<ColdMark> cold_marks_;
};

}  // namespace deja
