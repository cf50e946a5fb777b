#include "execute/cache/perf_map.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/host_limits.h"
#include "base/log.h"
#include "sandbox/outside_file.h"

namespace deja {

std::string perf_map_text(const CodeStore& store, u64 cache_exec) {
  std::string text;
  if (!store.blocks.in(0).empty())
    text += fmt::format("{:x} {:x} thunks\n", cache_exec, store.blocks.in(0).front().far_entry);
  for (unsigned region = 0; region < kMaxRegions; ++region) {
    const auto name = [](const Block& b) {
      return fmt::format("{}:{:x}", b.mode.has(BlockMode::kUser) ? "user" : "kernel", b.pc.value);
    };
    for (const Block& b : store.blocks.in(region)) {
      text += fmt::format("{:x} {:x} {}\n", cache_exec + b.far_entry, b.end - b.far_entry, name(b));
      if (b.cold_end > b.cold_begin)
        text +=
            fmt::format("{:x} {:x} {}.cold\n", cache_exec + b.cold_begin, b.cold_end - b.cold_begin, name(b));
    }
    for (const SpecialCopy& c : store.special_copies.in(region))
      text += fmt::format("{:x} {:x} {}.copy\n", cache_exec + c.begin, c.end - c.begin,
                          name(store.blocks[c.block]));
  }
  return text;
}

std::string perf_map_path() { return fmt::format("/tmp/perf-{}.map", getpid()); }

void write_perf_map(const std::string& text) {
  const std::string path = perf_map_path();
  const int fd = create_outside_file(path, false);
  std::FILE* file = fd >= 0 ? fdopen(fd, "w") : nullptr;
  const bool written = file && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if ((file && std::fclose(file) != 0) || !written)
    log_warn("engine", "cannot write {}: {}", path, host_error(errno));
}

}  // namespace deja
