#include "translate/unroll.h"

#include <algorithm>

namespace deja {
namespace {

// More turns save little more, and what is left of a block when the loop ends has to be given back.
constexpr unsigned kMaxTurns = 4;
constexpr unsigned kMaxInsns = 48;

unsigned turns(std::size_t insns, unsigned max_insns) {
  return std::min<unsigned>(kMaxTurns, std::min(kMaxInsns, max_insns) / static_cast<unsigned>(insns));
}

}  // namespace

bool is_small_loop(const std::vector<BlockInsn>& block, unsigned max_insns) {
  const BlockInsn& last = block.back();
  if (last.way != Way::jcc || last.end + last.insn.imm != block.front().start) return false;
  return turns(block.size(), max_insns) > 1;
}

void unroll_loop(std::vector<BlockInsn>* loop, unsigned max_insns) {
  const std::size_t turn = loop->size();
  const unsigned count = turns(turn, max_insns);
  loop->reserve(turn * count);
  for (unsigned t = 1; t < count; ++t) {
    loop->back().goes_round = true;
    for (std::size_t i = 0; i < turn; ++i) {
      loop->push_back((*loop)[i]);
      loop->back().goes_round = false;
    }
  }
}

}  // namespace deja
