// First stage: from guest bytes to the instructions of a block, and the way that each of them will go.
#pragma once

#include <span>
#include <vector>

#include "guest/fault.h"
#include "translate/classify.h"
#include "translate/mode.h"
#include "translate/quick.h"

namespace deja {

struct TranslateOptions {
  unsigned max_insns = 64;
  bool avx_model = true;      // CPU model x86-64-v3: TZCNT and LZCNT exist
  bool adx_model = false;     // the CPU model has ADCX and ADOX
  bool sha_model = false;     // and the SHA instructions
  bool inline_jumps = true;   // off: every cross-page and indirect jump goes through C++
  bool inline_tlb = true;     // off: every access goes through C++
  bool link = true;           // off: no direct links
  bool far_links = true;      // off: direct jumps to other pages go through the jump cache
  bool quick = true;          // off: no quick way for system instructions
  bool extend = true;         // off: a block ends at a conditional jump
  bool elide = true;          // off: every access is checked by itself
  bool probes = true;         // off: a check that fails branches, and never faults
  bool templates = true;      // off: every instruction is decoded from scratch (decode/templates.h)
  bool unroll = true;         // off: a block has one turn of a loop
  unsigned unroll_after = 8;  // execute/ asks: turns that a small loop makes before it is worth while
  u32 soft_flags = 0;         // each FlagGroup of which the host computes other flags than the canonical ones
  u32 cpp_flags = 0;          // of these, the ones that flag_fixes.h does not mend on this host
  bool fix_flags = true;      // off: all of them are done in C++
  // execute/ asks: address spaces with the same upper half have one TLB and jump cache for supervisor code.
  bool share_kernel = true;
};

// The optimisations that can be switched off by hand, by the names that they have there: --engine no-link,…
struct EngineSwitch {
  const char* name;
  bool TranslateOptions::*on;
};
inline constexpr EngineSwitch kEngineSwitches[] = {
    {"link", &TranslateOptions::link},
    {"inline-tlb", &TranslateOptions::inline_tlb},
    {"inline-jumps", &TranslateOptions::inline_jumps},
    {"far-links", &TranslateOptions::far_links},
    {"quick", &TranslateOptions::quick},
    {"extend", &TranslateOptions::extend},
    {"elide", &TranslateOptions::elide},
    {"probes", &TranslateOptions::probes},
    {"templates", &TranslateOptions::templates},
    {"unroll", &TranslateOptions::unroll},
    {"fix-flags", &TranslateOptions::fix_flags},
    {"share-kernel", &TranslateOptions::share_kernel},
};

// In place of the second page of what is in one.
inline constexpr Gpa kNoPage{~u64{0}};

struct TranslateInput {
  Gpa pc;
  BlockMode mode;
  const u8* bytes = nullptr;  // at pc
  unsigned size = 0;          // bytes available
  Gpa second_page = kNoPage;  // bytes beyond the page end belong to this page
  std::span<const u16> cuts;  // page offsets, ascending: no instruction but the first may begin at one
};

// A block goes on behind this many conditional jumps. More would seldom be reached, and what follows a jump
// is translated once more for those who jump there.
inline constexpr unsigned kMaxJumpsPassed = 3;

// A data access of an instruction, as the plan (plan.h) sees it.
struct PlannedAccess {
  i8 group = -1;        // -1: checked by itself
  bool leads = false;   // checks the whole group
  i16 before = 0;       // leader: how far the group's first byte lies below this access
  u16 span = 0;         // leader: bytes from the group's first to its last
  bool writes = false;  // leader: some member writes
  u8 left = 0;          // leader: members that follow
};

struct BlockInsn {
  Insn insn;
  Way way = Way::helper;
  u8 raise = kNoVector;           // way helper: raise this vector instead
  QuickOp quick = QuickOp::none;  // way helper: the quick way that is tried first
  u16 start = 0, end = 0;         // page offsets
  bool soft = false;       // the host may compute other flags than the canonical ones, which can be mended…
  bool fix_flags = false;  // …and are: way carry, by Translator::emit_fixed_op
  bool goes_round = false;  // way jcc: when it is taken the next instruction is the block's first again
  PlannedAccess access[2];  // in the order in which the instruction makes them
};

enum class FormStatus : u8 { ok, need_next_page };

// Decodes a block. It ends after an instruction that never goes on to the next, at the end of the page,
// before a cut, and at the limits of mode and options. Reuses the storage of `out`.
FormStatus form_block(const TranslateInput& input, const TranslateOptions& options,
                      std::vector<BlockInsn>* out);

// One instruction of a block, at page offset `start`, from its `size` bytes.
DecodeStatus form_insn(const TranslateInput& input, const TranslateOptions& options, unsigned start,
                       unsigned size, BlockInsn* out);

// Whether the block may go on behind this instruction.
bool falls_through(const BlockInsn& i);

}  // namespace deja
