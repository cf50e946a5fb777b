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

std::string list_block(const CodeStore& store, const Block& block, const Translator& translator,
                       const u8* write, u64 exec, u64 pc) {
  const std::vector<BlockInsn>& insns = translator.insns();
  std::string out = fmt::format(
      "block at {:#x} (physical {:#x}), {} instructions, {} + {} bytes of host code\n", pc, block.pc.value,
      block.count, block.end - block.far_entry, block.cold_end - block.cold_begin);
  const auto host = [&](unsigned k) { return block.far_entry + store.places[block.first_place + k].host; };
  const auto list_guest = [&](const BlockInsn& b) {
    const u64 at = pc + b.start - insns[0].start;
    out += fmt::format("{:#x}  {}", at, disassemble(b.insn.bytes, b.insn.length, block.mode.code_size(), at));
  };
  list_host(&out, write, exec, block.far_entry, host(0));
  for (unsigned k = 0; k < block.count; ++k) {
    list_guest(insns[k]);
    out += plan_of(insns[k]) + "\n";
    list_host(&out, write, exec, host(k), k + 1u < block.count ? host(k + 1) : block.end);
  }
  const auto& cold = translator.cold_marks();
  if (!cold.empty()) out += "out of line:\n";
  for (std::size_t k = 0; k < cold.size(); ++k) {
    list_guest(insns[cold[k].insn]);
    out += "\n";
    list_host(&out, write, exec, cold[k].host_offset,
              k + 1 < cold.size() ? cold[k + 1].host_offset : block.cold_end);
  }
  return out;
}

}  // namespace deja
