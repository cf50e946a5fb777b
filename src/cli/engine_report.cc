#include "cli/engine_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "cli/messages.h"
#include "replay/position.h"

namespace deja {
namespace {

constexpr std::size_t kMostHelpers = 24;  // in text; JSON has all

struct HelperCalls {
  const char* mnemonic;
  u64 calls;
};

// Most frequent first.
std::vector<HelperCalls> helpers_of(const EngineCounters& c) {
  std::vector<HelperCalls> list;
  for (std::size_t m = 0; m < c.helpers.size(); ++m)
    if (c.helpers[m]) list.push_back({ZydisMnemonicGetString(static_cast<ZydisMnemonic>(m)), c.helpers[m]});
  std::stable_sort(list.begin(), list.end(),
                   [](const HelperCalls& a, const HelperCalls& b) { return a.calls > b.calls; });
  return list;
}

}  // namespace

std::string engine_text(const EngineRun& run) {
  const EngineCounters& c = run.counters;
  std::string text;
  const auto row = [&](u64 value, const std::string& name) {
    text += show("{:>16}  {}\n", format_count(value), name);
  };
  row(c.blocks, "blocks translated");
  row(c.translated_insns, "instructions translated");
  const auto time_row = [&](u64 ns, const char* what) {
    const double part = run.host_ns ? 100.0 * static_cast<double>(ns) / static_cast<double>(run.host_ns) : 0;
    row(ns / 1'000'000, show("ms {}, {:.1f} % of the time", what, part));
  };
  time_row(c.translation_ns, "translating");
  time_row(c.digest_ns, "for digests");
  row(c.cache_evictions, "times the code cache was full and a part of it was emptied");
  row(c.evicted_blocks, "blocks in these parts");
  row(c.code_invalidations, "stores into translated code");
  row(c.links, "direct jumps linked");
  row(c.second_jumps, "jumps found in the jump cache's second way");
  row(c.dispatch_sum(), "dispatches, caused by:");
  for (unsigned i = 0; i < kDispatchCauses; ++i)
    row(c.dispatches[i], show("  {}", to_string(static_cast<DispatchCause>(i))));
  row(c.slow_accesses, "memory accesses not settled inline, of these:");
  row(c.probe_faults, "  found by a host fault");
  row(c.tlb_fills, "  TLB entry made");
  row(c.crossings, "  across pages");
  row(c.mmio, "  not RAM");
  row(c.tracked, "  stores to page tables and code");
  row(c.table_drops, "page-table stores that dropped TLB entries");
  row(c.space_recycles, "address spaces that took over another's TLB");
  row(c.faults, "exceptions and interrupts");
  row(c.interrupts, "of these, interrupts");
  row(c.quick_done, "instructions done in C++ the quick way");
  row(c.quick_declined, "quick ways that were declined");
  row(c.helper_sum(), "instructions done in C++ the ordinary way, most often:");
  const auto helpers = helpers_of(c);
  for (std::size_t i = 0; i < std::min(helpers.size(), kMostHelpers); ++i)
    row(helpers[i].calls, show("  {}", helpers[i].mnemonic));
  return text;
}

std::string engine_json(const EngineRun& run) {
  const EngineCounters& c = run.counters;
  nlohmann::ordered_json j;
  j["instructions"] = run.instructions;
  j["host_ns"] = run.host_ns;
  j["blocks"] = c.blocks;
  j["translated_instructions"] = c.translated_insns;
  j["translation_ns"] = c.translation_ns;
  j["digest_ns"] = c.digest_ns;
  j["cache_evictions"] = c.cache_evictions;
  j["evicted_blocks"] = c.evicted_blocks;
  j["code_invalidations"] = c.code_invalidations;
  j["links"] = c.links;
  j["second_jumps"] = c.second_jumps;
  for (unsigned i = 0; i < kDispatchCauses; ++i)
    j["dispatches"][to_string(static_cast<DispatchCause>(i))] = c.dispatches[i];
  j["slow_accesses"] = {{"all", c.slow_accesses},   {"probe_faults", c.probe_faults},
                        {"tlb_fills", c.tlb_fills}, {"crossings", c.crossings},
                        {"mmio", c.mmio},           {"tracked", c.tracked}};
  j["table_drops"] = c.table_drops;
  j["space_recycles"] = c.space_recycles;
  j["exceptions"] = c.faults - c.interrupts;
  j["interrupts"] = c.interrupts;
  j["quick"] = {{"done", c.quick_done}, {"declined", c.quick_declined}};
  j["helpers"] = nlohmann::ordered_json::object();
  for (const HelperCalls& h : helpers_of(c)) j["helpers"][h.mnemonic] = h.calls;
  return j.dump(2);
}

}  // namespace deja
