#include "timeline/search_workers.h"

#include <sched.h>
#include <sys/sysinfo.h>

#include <algorithm>
#include <exception>
#include <system_error>

#include "base/log.h"
#include "execute/cache/code_memory.h"
#include "timeline/own_signals.h"

namespace deja {
namespace {

constexpr unsigned kMost = 7;  // more would wait for each other's memory

// As many as the host has processors besides this thread's and memory for, for machines of `ram_bytes`.
unsigned fitting(u64 ram_bytes) {
  cpu_set_t allowed;
  struct sysinfo memory {};
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0 || sysinfo(&memory) != 0) return 0;
  const u64 processors = static_cast<u64>(std::max(1, CPU_COUNT(&allowed)));
  // All machines together have at most half of the host's memory.
  const u64 machines = u64{memory.totalram} * memory.mem_unit / 2 / std::max<u64>(ram_bytes, 1);
  return static_cast<unsigned>(std::min({processors, std::max<u64>(machines, 1), u64{kMost} + 1}) - 1);
}

}  // namespace

void SearchWorkers::prepare() { CodeMemory::reserve(2 + fitting(0)); }

SearchWorkers::SearchWorkers(std::filesystem::path dir, const EngineOptions& engine, unsigned count)
    : dir_(std::move(dir)), engine_(engine), count_(count) {
  engine_.perf_map = false;  // there is one file of that kind
}

SearchWorkers::SearchWorkers(const Navigator& nav, const EngineOptions& engine)
    : SearchWorkers(nav.dir(), engine, fitting(nav.manifest().machine.ram_bytes)) {}

void SearchWorkers::start(Job job) {
  {
    const std::lock_guard lock(mutex_);
    job_ = std::move(job);
    ++given_;
  }
  news_.notify_all();
  const OnlyOwnSignals inherited;
  try {
    while (threads_.size() < count_) threads_.emplace_back([this] { work(); });
  } catch (const std::system_error& error) {
    log_debug("timeline", "no thread for a search beside: {}", error.what());
  }
}

void SearchWorkers::work() {
  std::unique_ptr<Navigator> navigator;
  u64 done = 0;
  while (true) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      news_.wait(lock, [&] { return ending_ || given_ != done; });
      if (ending_) return;
      done = given_;
      job = job_;
    }
    // Whoever asked does without this thread when it cannot help.
    try {
      if (!navigator) {
        auto opened = Navigator::open(dir_, engine_);
        if (!opened) {
          log_debug("timeline", "no machine for a search beside: {}", opened.error().message);
          return;
        }
        navigator = std::move(opened).value();
      }
      job(*navigator);
    } catch (const std::exception& error) {  // memory is used up
      log_debug("timeline", "a search beside ends: {}", error.what());
      return;
    }
  }
}

SearchWorkers::~SearchWorkers() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  news_.notify_all();
  for (std::thread& t : threads_) t.join();
}

}  // namespace deja
