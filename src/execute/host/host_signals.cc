#include "execute/host/host_signals.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>

#include "base/host_limits.h"
#include "translate/translator.h"

namespace deja {

// In a list that handlers walk while other threads change it: a route that is given back is used again, and
// none is ever freed. `version` is odd while the rest changes.
struct Route {
  std::atomic<u32> version{0};
  std::atomic<u64> begin{0}, end{0};
  HostSignalMap map;
  bool taken = false;
  Route* next = nullptr;

  void set(const HostSignalMap& m) {
    const u32 v = version.load(std::memory_order_relaxed);
    version.store(v + 1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    begin.store(m.code_begin, std::memory_order_relaxed);
    end.store(m.code_end, std::memory_order_relaxed);
    map = m;
    version.store(v + 2, std::memory_order_release);
  }
};

namespace {

std::mutex g_routes_change;
std::atomic<Route*> g_routes{nullptr};
thread_local bool t_stack_set = false;

// Async-signal-safe.
const HostSignalMap* map_of(u64 pc) {
  for (const Route* r = g_routes.load(std::memory_order_acquire); r; r = r->next) {
    const u32 version = r->version.load(std::memory_order_acquire);
    const u64 begin = r->begin.load(std::memory_order_relaxed), end = r->end.load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);
    // The engine whose code this thread runs keeps its route meanwhile, so one that changes is another's.
    if (version % 2 || r->version.load(std::memory_order_relaxed) != version) continue;
    if (pc - begin < end - begin) return &r->map;
  }
  return nullptr;
}

void on_fault(int signal, siginfo_t*, void* raw) {
  auto* uc = static_cast<ucontext_t*>(raw);
  greg_t* r = uc->uc_mcontext.gregs;
  const u64 pc = static_cast<u64>(r[REG_RIP]);
  if (const HostSignalMap* const m = map_of(pc)) {
    const u64 trap = static_cast<u64>(r[REG_TRAPNO]);
    if (signal == SIGSEGV && trap == 14) {
      // The probe: only it can touch an inaccessible page. Its block id is in front of the far entry.
      const u64 near_entry = pc - Translator::kProbeOffset;
      u32 id;
      std::memcpy(&id,
                  reinterpret_cast<const void*>(near_entry - Translator::kFarEntryBytes -
                                                Translator::kExpiredBytes + Translator::kBlockIdOffset),
                  4);
      const u64 address = static_cast<u64>(r[REG_CR2]);
      if (address < m->probe_base && address >= m->probe_base - 64_KiB) {
        r[REG_RCX] = id;
        r[REG_RIP] = static_cast<greg_t>(m->expired);
        return;
      }
    }
    // Else a page fault is a TLB lookup that has missed (emit_lookup).
    if (trap == 0 || trap == 13 || trap == 14 || trap == 16 || trap == 19) {
      m->context->host_fault_pc = pc;
      m->context->host_fault_trap = trap;
      r[REG_RIP] = static_cast<greg_t>(m->host_fault);
      return;
    }
  }
  // Not ours: die as the default action would, with the faulting instruction in the core dump.
  run_crash_hooks();
  static const char text[] =
      "deja: internal error: host fault outside what the engine handles; this is a bug in DejaVM\n";
  (void)!write(STDERR_FILENO, text, sizeof text - 1);
  struct sigaction dfl {};
  dfl.sa_handler = SIG_DFL;
  sigaction(signal, &dfl, nullptr);
}

// For the calling thread.
Status set_signal_stack() {
  if (t_stack_set) return {};
  constexpr std::size_t kStack = 256 * 1024;
  void* const stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (stack == MAP_FAILED) return make_error("no room for a stack for signals: {}", host_error(errno));
  stack_t ss{};
  ss.ss_sp = stack;
  ss.ss_size = kStack;
  if (sigaltstack(&ss, nullptr) != 0) {
    const int error = errno;
    munmap(stack, kStack);
    return make_error(
        "the host refuses a stack for signals (sigaltstack: {}): something around this process, such as a "
        "container's seccomp profile, forbids it; allow it there",
        host_error(error));
  }
  t_stack_set = true;
  return {};
}

// A forked child does not inherit code caches (code_memory.cc): an engine that it makes may have its own
// where one of its parent's was, and must not be taken for that.
void forget_routes_of_parent() {
  g_routes_change.unlock();
  for (Route* r = g_routes.load(std::memory_order_relaxed); r; r = r->next) r->set({});
}

}  // namespace

Status install_host_signals() {
  DEJA_TRY(set_signal_stack());
  static const int registered = ::pthread_atfork([] { g_routes_change.lock(); },
                                                 [] { g_routes_change.unlock(); }, &forget_routes_of_parent);
  if (registered != 0) return make_error("pthread_atfork: {}", host_error(registered));
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  for (const int s : {SIGSEGV, SIGFPE, SIGBUS, SIGILL})
    if (sigaction(s, &action, nullptr)) return make_error("sigaction: {}", host_error(errno));
  return {};
}

// The thread that made the machine has a stack already; others are refused only what that one was.
void prepare_signal_stack() {
  const Status status = set_signal_stack();
  DEJA_CHECK(status.ok(), "{}", status.error().message);
}

HostSignalRoute::HostSignalRoute(const HostSignalMap& map) {
  const std::lock_guard lock(g_routes_change);
  route_ = g_routes.load(std::memory_order_relaxed);
  while (route_ && route_->taken) route_ = route_->next;
  if (!route_) {
    route_ = new Route;
    route_->next = g_routes.load(std::memory_order_relaxed);
    g_routes.store(route_, std::memory_order_release);
  }
  route_->taken = true;
  route_->set(map);
}

HostSignalRoute::~HostSignalRoute() {
  const std::lock_guard lock(g_routes_change);
  route_->set({});
  route_->taken = false;
}

}  // namespace deja
