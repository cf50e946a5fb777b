#include "translate/listing.h"

#include <fmt/format.h>

#include <algorithm>

namespace deja {
namespace {

std::string plan_of(const BlockInsn& b) {
  std::string text;
  for (const PlannedAccess& a : b.access) {
    if (a.group < 0) continue;
    if (a.leads)
      text += fmt::format("  ; group {}: checks {} bytes from {} below, for {}", a.group, a.span, a.before,
                          a.writes ? "writing" : "reading");
    else
      text += fmt::format("  ; in group {}", a.group);
  }
  return text;
}

void list_host(std::string* out, const u8* write, u64 exec, u32 from, u32 to) {
  while (from < to) {
    Insn insn;
    const DecodeStatus status =
        decode(write + from, std::min<u32>(to - from, 15), CodeSize::bits64, true, &insn);
    const unsigned length = status == DecodeStatus::ok ? insn.length : 1;
    *out += fmt::format("    {:7x}  {}\n", from,
                        disassemble(write + from, length, CodeSize::bits64, exec + from));
    from += length;
  }
}

}  // namespace

std::string list_block(const Block& block, const std::vector<BlockInsn>& insns, const u8* write, u64 exec,
                       u64 pc) {
  std::string out = fmt::format(
      "block at {:#x} (physical {:#x}), {} instructions, {} + {} bytes of host code\n", pc, block.pc.value,
      block.count, block.end - block.far_entry, block.cold_end - block.cold_begin);
  list_host(&out, write, exec, block.far_entry, block.marks.empty() ? block.end : block.marks[0].host_offset);
  bool cold = false;
  for (std::size_t k = 0; k < block.marks.size(); ++k) {
    const Mark& m = block.marks[k];
    const bool is_cold = m.host_offset >= block.cold_begin;
    if (is_cold && !cold) out += "out of line:\n";
    cold = is_cold;
    u32 to = is_cold ? block.cold_end : block.end;
    if (k + 1 < block.marks.size() && (block.marks[k + 1].host_offset >= block.cold_begin) == is_cold)
      to = block.marks[k + 1].host_offset;
    const BlockInsn& b = insns[m.insn];
    const u64 at = pc + b.start - insns[0].start;
    out +=
        fmt::format("{:#x}  {}{}\n", at, disassemble(b.insn.bytes, b.insn.length, block.mode.code_size(), at),
                    is_cold ? "" : plan_of(b));
    list_host(&out, write, exec, m.host_offset, to);
  }
  return out;
}

}  // namespace deja
