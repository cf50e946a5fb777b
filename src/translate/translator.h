// Turns guest instructions at one physical address into a block of host code.
//
// A block begins with a u32 block id, then the far entry (r9 = linear PC; sets ExecContext::current_page), then
// the near entry (for jumps inside the page), which takes the block's instruction count off the step counter and
// probes it. Then come the instructions, then the out-of-line parts: slow paths and link stubs.
#pragma once

#include <functional>
#include <span>

#include "translate/block.h"
#include "translate/emitter.h"
#include "translate/exec_context.h"

namespace deja {

// Host addresses that emitted code refers to.
struct CodeTargets {
  u64 context = 0;     // ExecContext
  u64 probe_base = 0;  // read at probe_base + (steps left >> 6); unmapped below: below 2 GiB
  u64 cache_exec = 0;  // start of the code cache as executed
  // Out of line entries into C++; ecx = site id unless said otherwise.
  u64 mem_slow = 0;    // r9 = address
  u64 mem_commit = 0;  // after the copy of the instruction has run on the bounce buffer
  u64 helper = 0;
  u64 quick = 0;         // a helper that has a quick way (translate/quick.h)
  u64 load_vectors = 0;  // rcx = where to go on
  u64 link = 0;
  u64 dispatch = 0;    // r9 = linear PC, ecx = branch site or kNone
};

struct TranslateOptions {
  unsigned max_insns = 64;
  bool avx_model = true;   // CPU model x86-64-v3: TZCNT and LZCNT exist
  bool inline_jumps = true;  // off: every cross-page and indirect jump goes through C++
  bool inline_tlb = true;    // off: every access goes through C++
  bool link = true;          // off: no direct links
  bool quick = true;         // off: no quick way for system instructions
  u32 soft_flags = 0;        // FlagGroups done in C++, as the host computes other flags than the canonical ones
};

struct TranslateInput {
  Gpa pc;
  BlockMode mode;
  const u8* bytes = nullptr;  // at pc
  unsigned size = 0;          // bytes available
  Gpa second_page{~u64{0}};   // bytes beyond the page end belong to this page
  std::span<const u16> cuts;  // page offsets, ascending: no instruction but the first may begin at one
};

enum class TranslateStatus : u8 {
  ok,
  need_next_page,  // the first instruction crosses the page end and `bytes` does not
  cache_full,
};

class Translator {
 public:
  Translator(CodeStore& store, const CodeTargets& targets, const TranslateOptions& options)
      : store_(store), targets_(targets), options_(options), e_(nullptr, 0) {}

  // Emits at `write` (executed at targets.cache_exec + offset), at most `room` bytes. On ok, *out is the new
  // block's id and *used the number of bytes emitted.
  TranslateStatus translate(const TranslateInput& input, u8* write, u32 offset, u64 room, BlockId* out, u32* used);

  TranslateOptions& options() { return options_; }
  // Room that one block may need at most.
  static constexpr u64 kMaxBlockCode = 64 * 1024;

  static constexpr unsigned kMaxInsnBytes = 15;
  static constexpr unsigned kFarEntryBytes = 14;
  static constexpr unsigned kProbeOffset = 12;  // from the near entry to the probing load

 private:
  friend class OpEmitter;
  u64 ctx(std::size_t field_offset) const { return targets_.context + field_offset; }
  u64 gpr_slot(unsigned g) const { return ctx(g * 8); }
  u32 offset_of(const u8* at) const { return static_cast<u32>(at - cache_write_); }

  // Before an instruction of the host that touches vector registers.
  void need_vectors();
  bool translate_insn(const Insn& insn);  // false: the block ends here (code for that is emitted)
  void emit_helper(const Insn& insn, bool ends, u8 raise = 0xff);

  // Guest register -> host register; r8-r11 are loaded into `scratch` first.
  unsigned load_gpr(unsigned guest, unsigned scratch);
  void store_gpr(unsigned guest, unsigned host);
  // r9 = linear address (or segment offset when the access is checked) of the memory operand; `rsp_bias` is added
  // when the base is RSP (POP m).
  void emit_address(const Insn& insn, i32 rsp_bias = 0);
  bool access_is_checked(const Insn& insn, unsigned segment) const;

  struct AccessSpec {
    u8 size = 0;
    bool read = false, write = false;
    u8 segment = DS;
    u8 align = 0;
    bool checked = false;
    AfterSite after = AfterSite::next_insn;
    i32 target = 0;
    bool keep_r9 = false;  // the op leaves a result in r9 that must survive the commit
    bool waits_fpu = false, mmx_store = false, converts = false, x87_store = false;
  };
  // r9 = address. Emits lookup, `op` on [r9+r10], and its out-of-line twin.
  void emit_access(const AccessSpec& spec, std::function<void()> op);

  // The guest instruction itself with registers renamed; its memory operand is at [r9+r10].
  void emit_op(const Insn& insn);
  void emit_carried(const Insn& insn);
  void emit_lea(const Insn& insn);
  void emit_moffs(const Insn& insn);
  void emit_push(const Insn& insn);
  void emit_pop(const Insn& insn);
  bool emit_jump(const Insn& insn);
  void emit_jcc(const Insn& insn);
  void emit_call(const Insn& insn);
  void emit_ret(const Insn& insn);
  void emit_loop(const Insn& insn);
  void push_prologue(unsigned size);
  // Leave the block for a PC relative to the current page. `branch`: the site of the jump that goes there, when
  // the target can lie outside the canonical addresses.
  void exit_to(i32 target, u32 branch = kNone);
  // Whether a jump there can be linked: inside the page, and no instruction that may cross its end, since what
  // follows in the next page depends on the address space.
  static bool linkable(i32 target) {
    return target >= 0 && target <= static_cast<i32>(kPageSize) - static_cast<i32>(kMaxInsnBytes);
  }
  // Leave for the linear PC in r9.
  void exit_indirect(u32 branch);
  u32 branch_site(i32 popped = 0);
  void jcc_to(unsigned condition, i32 target);
  void deferred(std::function<void()> f) { cold_.push_back({current_insn_, std::move(f)}); }
  void mark();

  CodeStore& store_;
  CodeTargets targets_;
  TranslateOptions options_;

  // The block in progress.
  Emitter e_;
  u8* cache_write_ = nullptr;
  BlockId id_ = 0;
  BlockMode mode_;
  Block block_;
  u16 current_insn_ = 0;
  unsigned insn_start_ = 0;  // page offset of the instruction being translated
  unsigned insn_end_ = 0;
  struct Cold {
    u16 insn;
    std::function<void()> emit;
  };
  std::vector<Cold> cold_;
};

}  // namespace deja
