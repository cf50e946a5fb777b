#include "translate/form.h"

#include <algorithm>

#include "decode/flag_groups.h"
#include "decode/templates.h"
#include "guest/fault.h"
#include "translate/flag_fixes.h"

namespace deja {
namespace {

// A jump back closes a loop and is mostly taken: the block ends there, so that it is linked without a detour.
bool jumps_back(const BlockInsn& b) { return b.way == Way::jcc && b.insn.imm < 0; }

DecodeStatus decode_from_scratch(const u8* code, std::size_t size, CodeSize code_size, bool stack_big,
                                 Insn* out) {
  return decode_by_zydis(code, size, code_size, stack_big, out);
}

// Is it no feature that the CPU model lacks? What it lacks is as unknown as any other.
bool in_model(const TranslateOptions& options, const Insn& i) {
  if (i.isa_ext == ZYDIS_ISA_EXT_ADOX_ADCX) return options.adx_model;
  return i.isa_ext != ZYDIS_ISA_EXT_SHA || options.sha_model;
}

bool leaves_page(const BlockInsn& b) {
  const i64 target = i64{b.end} + b.insn.imm;
  return target < 0 || target >= static_cast<i64>(kPageSize);
}

// The vector that `b` raises instead of being executed, or kNoVector; and else its way.
u8 choose_way(const TranslateOptions& options, BlockMode mode, BlockInsn& b) {
  Insn& i = b.insn;
  Way* const way = &b.way;
  *way = Way::helper;
  if (!in_model(options, i)) return kNoVector;
  if (const u8 gate = fpu_gate(i, mode); gate != kNoVector) return gate;
  if (!options.avx_model &&
      (i.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX || i.isa_ext == ZYDIS_ISA_EXT_MOVBE))
    return kUD;
  const Way by_kind = classify(i);
  if (by_kind == Way::carry && options.soft_flags) {
    // Without BMI1 and LZCNT these bytes are BSF and BSR.
    Insn meant = i;
    if (!options.avx_model && i.mnemonic == ZYDIS_MNEMONIC_TZCNT) meant.mnemonic = ZYDIS_MNEMONIC_BSF;
    if (!options.avx_model && i.mnemonic == ZYDIS_MNEMONIC_LZCNT) meant.mnemonic = ZYDIS_MNEMONIC_BSR;
    const FlagGroup group = flag_group(meant.mnemonic);
    if (group != FlagGroup::none && (options.soft_flags >> static_cast<unsigned>(group) & 1)) {
      b.soft = options.fix_flags && !(options.cpp_flags >> static_cast<unsigned>(group) & 1) &&
               meant.mnemonic == i.mnemonic;
      b.fix_flags = b.soft && can_fix_flags(i);
      *way = b.fix_flags ? Way::carry : Way::helper_inline;
      i = meant;
      return kNoVector;
    }
  }
  const bool flat_stack = mode.has(BlockMode::kFlatData);
  const bool flat_code = mode.has(BlockMode::kFlatCode);
  const bool word_branch = i.operand_size == 2 && mode.code_size() != CodeSize::bits64;
  switch (by_kind) {
    case Way::push:
    case Way::pop:
    case Way::leave:
      if (!flat_stack || (by_kind == Way::leave && i.operand_size == 2)) return kNoVector;
      break;
    case Way::call:
    case Way::ret:
      if (!flat_stack || !flat_code || word_branch) return kNoVector;
      break;
    case Way::loop:
      // Where the target may lie outside the canonical addresses, RCX must not have changed when it does.
      if (leaves_page(b)) return kNoVector;
      [[fallthrough]];
    case Way::jump:
    case Way::jcc:
      if (!flat_code || word_branch) return kNoVector;
      break;
    default:
      break;
  }
  *way = by_kind;
  return kNoVector;
}

}  // namespace

bool falls_through(const BlockInsn& i) {
  switch (i.way) {
    case Way::carry:
    case Way::nothing:
    case Way::lea:
    case Way::moffs:
    case Way::leave:
    case Way::jcc:
    case Way::helper_inline:
      return true;
    case Way::push:
    case Way::pop:
      // With two accesses, the second of which may find that the run is to stop after it.
      return !i.insn.has_mem;
    case Way::helper:
      return i.quick != QuickOp::none && quick_goes_on(i.quick);
    default:
      return false;
  }
}

DecodeStatus form_insn(const TranslateInput& input, const TranslateOptions& options, unsigned start,
                       unsigned size, BlockInsn* out) {
  BlockInsn& b = *out;
  const auto how = options.templates ? decode : decode_from_scratch;
  const DecodeStatus status =
      how(input.bytes, size, input.mode.code_size(), input.mode.has(BlockMode::kStackBig), &b.insn);
  if (status == DecodeStatus::truncated) return status;
  b.start = static_cast<u16>(start);
  b.end = static_cast<u16>(start + b.insn.length);
  b.quick = QuickOp::none;
  b.soft = b.fix_flags = false;
  b.access[0] = b.access[1] = {};
  if (status == DecodeStatus::ok) {
    b.raise = choose_way(options, input.mode, b);
    const bool in_cpp = b.way == Way::helper || b.way == Way::helper_inline;
    if (in_cpp && b.raise == kNoVector && options.quick) b.quick = quick_op(b.insn, input.mode);
  } else {
    b.insn = Insn{};
    b.insn.length = 1;
    b.way = Way::helper;
    b.raise = status == DecodeStatus::too_long ? kGP : kUD;
    b.end = static_cast<u16>(start + 1);
  }
  return status;
}

FormStatus form_block(const TranslateInput& input, const TranslateOptions& options,
                      std::vector<BlockInsn>* out) {
  out->clear();
  const unsigned most =
      input.mode.limit() ? std::min<unsigned>(input.mode.limit(), options.max_insns) : options.max_insns;
  const bool crossing = input.second_page.value != ~u64{0};
  const unsigned first = static_cast<unsigned>(input.pc.offset());
  TranslateInput rest = input;
  unsigned pos = 0, jumps = 0;
  while (true) {
    BlockInsn& b = out->emplace_back();
    rest.bytes = input.bytes + pos;
    if (form_insn(rest, options, first + pos, std::min(input.size - pos, 15u), &b) ==
        DecodeStatus::truncated) {
      out->pop_back();
      return out->empty() ? FormStatus::need_next_page : FormStatus::ok;
    }
    pos += b.insn.length;
    if (b.way == Way::jcc) ++jumps;
    const bool goes_on = falls_through(b) && (b.way != Way::jcc ||
                                              (options.extend && jumps <= kMaxJumpsPassed && !jumps_back(b)));
    if (!goes_on || out->size() >= most || crossing || pos >= input.size ||
        std::binary_search(input.cuts.begin(), input.cuts.end(), b.end))
      return FormStatus::ok;
  }
}

}  // namespace deja
