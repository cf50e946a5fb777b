// Threads that search a recording beside the one that asks, each with a machine of its own. They start when
// they are first needed: building a machine takes longer than many a search.
#pragma once

#include <condition_variable>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "timeline/navigator.h"

namespace deja {

class SearchWorkers {
 public:
  using Job = std::function<void(Navigator&)>;

  // To be called before the recording is opened, and with it the sandbox entered: it allows no more code
  // caches than there are.
  static void prepare();
  // Workers for the recording in `dir`, which this process has opened before.
  SearchWorkers(std::filesystem::path dir, const EngineOptions& engine, unsigned count);
  // As many as `nav` has use for here.
  SearchWorkers(const Navigator& nav, const EngineOptions& engine);
  // Waits until the jobs that have begun return. Those that have not are dropped.
  ~SearchWorkers();
  SearchWorkers(const SearchWorkers&) = delete;

  unsigned count() const { return count_; }
  // Every worker does `job` once it returns from what it does now; what it was given before and has not begun
  // is dropped. One whose machine cannot be built does nothing. Does not wait.
  void start(Job job);

 private:
  void work();

  const std::filesystem::path dir_;
  EngineOptions engine_;
  const unsigned count_;
  std::mutex mutex_;
  std::condition_variable news_;
  bool ending_ = false;
  u64 given_ = 0;  // jobs
  Job job_;        // the last of them
  std::vector<std::thread> threads_;
};

}  // namespace deja
