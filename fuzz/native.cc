#include "fuzz/native.h"

#include <asm/prctl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>

#include "base/check.h"

namespace deja::fuzz {

// What the child needs of a test, in plain shared memory.
struct NativeSlot {
  UserState initial;
  u64 end;
  u32 code_offset, code_length;
  u8 code[256];
  u8 data[kDataSize];
  RunResult result;
};

struct NativeShared {
  u32 count;
  u32 done;
  NativeSlot slot[NativeRunner::kBatch];
};

namespace {

constexpr int kTimeoutMicroseconds = 20000;  // of CPU time
// More than the child's stack has grown to, and less than Linux leaves free below it for growing (128 MiB).
constexpr u64 kStackReach = 64_MiB;
// Layout of the XSAVE area, standard format (SDM vol. 1 13.4).
constexpr unsigned kXstateBv = 512, kAvxOffset = 576;

// The child's own variables; reached without TLS, as the FS base is the test's when a handler starts.
NativeShared* g_shared;
int g_socket;
u64 g_host_fs, g_below_stack;
int g_current = -1;

// System call without errno.
long raw_syscall(long number, long a, long b = 0, long c = 0) {
  long result;
  asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
  return result;
}
void set_timer(int microseconds) {
  itimerval value = {{0, 0}, {0, microseconds}};
  raw_syscall(SYS_setitimer, ITIMER_PROF, reinterpret_cast<long>(&value));
}
void copy(void* to, const void* from, std::size_t size) {
  asm volatile("cld; rep movsb" : "+D"(to), "+S"(from), "+c"(size)::"memory");
}

void fill(void* to, u8 value, std::size_t size) {
  asm volatile("cld; rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
}

constexpr int kGreg[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                           REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

void save_state(const ucontext_t& uc, UserState& s) {
  for (int i = 0; i < 16; i++) s.gpr[i] = uc.uc_mcontext.gregs[kGreg[i]];
  s.rip = uc.uc_mcontext.gregs[REG_RIP];
  s.rflags = uc.uc_mcontext.gregs[REG_EFL];
  const u8* area = reinterpret_cast<const u8*>(uc.uc_mcontext.fpregs);
  u64 present;
  copy(&present, area + kXstateBv, 8);
  s.fpu = FpuState{};
  s.fpu.fcw = 0x37f;
  if (present & 1) {
    copy(&s.fpu.fcw, area, 2);
    copy(&s.fpu.fsw, area + 2, 2);
    s.fpu.ftw = area[4];
    for (int i = 0; i < 8; i++) copy(s.fpu.st[i], area + 32 + 16 * i, 10);
  }
  copy(&s.fpu.mxcsr, area + 24, 4);
  for (int i = 0; i < 16; i++) {
    if (present & 2) copy(s.fpu.ymm[i], area + 160 + 16 * i, 16);
    if (present & 4) copy(s.fpu.ymm[i] + 16, area + kAvxOffset + 16 * i, 16);
  }
}

void load_state(ucontext_t& uc, const UserState& s) {
  for (int i = 0; i < 16; i++) uc.uc_mcontext.gregs[kGreg[i]] = static_cast<greg_t>(s.gpr[i]);
  uc.uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(s.rip);
  uc.uc_mcontext.gregs[REG_EFL] = static_cast<greg_t>(s.rflags);
  u8* area = reinterpret_cast<u8*>(uc.uc_mcontext.fpregs);
  u64 present;
  copy(&present, area + kXstateBv, 8);
  present |= 7;
  copy(area + kXstateBv, &present, 8);
  u8 zero[24] = {};
  copy(area, zero, 24);
  copy(area, &s.fpu.fcw, 2);
  copy(area + 2, &s.fpu.fsw, 2);
  area[4] = s.fpu.ftw;
  copy(area + 24, &s.fpu.mxcsr, 4);
  for (int i = 0; i < 8; i++) copy(area + 32 + 16 * i, s.fpu.st[i], 16);
  for (int i = 0; i < 16; i++) {
    copy(area + 160 + 16 * i, s.fpu.ymm[i], 16);
    copy(area + kAvxOffset + 16 * i, s.fpu.ymm[i] + 16, 16);
  }
}

// Stores the result of the test that just ended.
void finish_test(int number, const ucontext_t& uc) {
  NativeSlot& slot = g_shared->slot[g_current];
  RunResult& r = slot.result;
  r.error = r.cr2 = 0;
  r.vector = 0;
  save_state(uc, r.state);
  copy(r.data.data(), reinterpret_cast<void*>(kDataAddress), kDataSize);
  const u64 trap = uc.uc_mcontext.gregs[REG_TRAPNO];
  if (number == SIGPROF) {
    r.end = End::timeout;
  } else if (number == SIGSYS) {
    r.end = End::excluded;
  } else if (trap == 3 && r.state.rip == slot.end + 1) {
    r.end = End::sentinel;
    r.state.rip = slot.end;
  } else {
    r.end = End::fault;
    r.vector = static_cast<u8>(trap);
    if (trap == 14) {
      r.error = uc.uc_mcontext.gregs[REG_ERR];
      r.cr2 = uc.uc_mcontext.gregs[REG_CR2];
    }
  }
}

// Every signal comes here: ends the running test, starts the next one by returning into it.
void on_signal(int number, siginfo_t*, void* context) {
  // AC, NT and ID may be the test's; Linux neither clears them for a handler nor (NT, ID) restores them after
  // it, so what is cleared here is clear when the next test starts.
  asm volatile("pushfq; andl $~0x244000, (%%rsp); popfq" ::: "cc", "memory");
  raw_syscall(SYS_arch_prctl, ARCH_SET_FS, static_cast<long>(g_host_fs));
  auto& uc = *static_cast<ucontext_t*>(context);
  if (g_current >= 0) {
    set_timer(0);
    finish_test(number, uc);
    g_shared->done = ++g_current;
  } else {
    // The stack that the child came from: it would grow down to where a test points, up to 8 MiB below.
    raw_syscall(SYS_munmap, static_cast<long>(g_below_stack),
                static_cast<long>(kLastUserPage - g_below_stack));
    g_current = 0;
    g_shared->count = 0;
  }
  if (g_current == static_cast<int>(g_shared->count)) {
    u8 byte = 0;
    if (raw_syscall(SYS_write, g_socket, reinterpret_cast<long>(&byte), 1) != 1 ||
        raw_syscall(SYS_read, g_socket, reinterpret_cast<long>(&byte), 1) != 1)
      raw_syscall(SYS_exit_group, 0);
    g_current = 0;
  }
  NativeSlot& slot = g_shared->slot[g_current];
  auto* code = reinterpret_cast<u8*>(kCodeAddress);
  raw_syscall(SYS_mprotect, kCodeAddress, kCodeSize, PROT_READ | PROT_WRITE);
  fill(code, 0xcc, kCodeSize);
  copy(code + slot.code_offset, slot.code, slot.code_length);
  raw_syscall(SYS_mprotect, kCodeAddress, kCodeSize, PROT_READ | PROT_EXEC);
  copy(reinterpret_cast<void*>(kDataAddress), slot.data, kDataSize);
  load_state(uc, slot.initial);
  set_timer(kTimeoutMicroseconds);
  raw_syscall(SYS_arch_prctl, ARCH_SET_GS, kGsBase);
  raw_syscall(SYS_arch_prctl, ARCH_SET_FS, kFsBase);
}

// System calls whose instruction lies in the code pages raise SIGSYS.
void refuse_system_calls_of_tests() {
  constexpr u32 ip_low = offsetof(seccomp_data, instruction_pointer);
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ip_low + 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 4),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ip_low),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, kCodeAddress, 0, 2),
      BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, kCodeAddress + kCodeSize, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog program = {sizeof filter / sizeof *filter, filter};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

[[noreturn]] void child_main(NativeShared* shared, int socket) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  g_shared = shared;
  g_socket = socket;
  g_current = -1;
  raw_syscall(SYS_arch_prctl, ARCH_GET_FS, reinterpret_cast<long>(&g_host_fs));
  g_below_stack = (reinterpret_cast<u64>(&socket) & ~u64{kPageSize - 1}) - kStackReach;
  constexpr std::size_t kStack = 1 << 16;  // AMX tiles make signal frames of 11 KiB
  void* stack = mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  stack_t alternate = {.ss_sp = stack, .ss_flags = 0, .ss_size = kStack};
  struct sigaction action = {};
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  if (stack == MAP_FAILED || sigaltstack(&alternate, nullptr)) _exit(1);
  for (int s : {SIGSEGV, SIGFPE, SIGILL, SIGBUS, SIGTRAP, SIGPROF, SIGSYS, SIGUSR1})
    sigaction(s, &action, nullptr);
  refuse_system_calls_of_tests();
  raise(SIGUSR1);  // enters on_signal for good
  _exit(0);
}

// Forks a child for each socket that comes, in place of the one before.
int zygote_main(NativeShared* shared, int requests) {
  pid_t child = -1;
  const auto stop_child = [&] {
    if (child < 0) return;
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  };
  while (const auto request = receive_message(requests)) {
    stop_child();
    child = fork();
    if (child == 0) {
      close(requests);
      for (auto [address, size] : {std::pair{kCodeAddress, kCodeSize}, std::pair{kDataAddress, kDataSize}}) {
        void* p = mmap(reinterpret_cast<void*>(address), size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_POPULATE, -1, 0);
        if (p == MAP_FAILED) _exit(1);
      }
      child_main(shared, request->fd);
    }
    close(request->fd);
  }
  stop_child();
  return 0;
}

}  // namespace

NativeRunner::NativeRunner() {
  // Read by the child only through pointers, so the type may have non-trivial members that stay unused.
  void* p = mmap(reinterpret_cast<void*>(kSharedAddress), sizeof(NativeShared), PROT_READ | PROT_WRITE,
                 MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  static_assert(sizeof(NativeShared) <= kSharedSize);
  DEJA_CHECK(p != MAP_FAILED, "mmap of the shared area: errno {}", errno);
  shared_ = static_cast<NativeShared*>(p);
  auto zygote = HelperProcess::start("native", [&](int requests) { return zygote_main(shared_, requests); });
  DEJA_CHECK(zygote.ok(), "{}", zygote.error().message);
  zygote_ = std::move(zygote.value());
  start_child();
}

NativeRunner::~NativeRunner() {
  close(socket_);
  zygote_.reset();
  munmap(shared_, sizeof(NativeShared));
}

void NativeRunner::start_child() {
  int ends[2];
  DEJA_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "socketpair: errno {}", errno);
  DEJA_CHECK(send_message(zygote_->socket(), "child", ends[1]), "the process that forks children is gone");
  close(ends[1]);
  socket_ = ends[0];
  u8 byte;
  DEJA_CHECK(read(socket_, &byte, 1) == 1, "the native child did not start");
}

std::vector<RunResult> NativeRunner::run(std::span<const TestCase> tests) {
  DEJA_CHECK(tests.size() <= kBatch);
  std::vector<RunResult> results(tests.size());
  std::size_t first = 0;
  while (first < tests.size()) {
    for (std::size_t i = first; i < tests.size(); i++) {
      NativeSlot& slot = shared_->slot[i - first];
      const Bytes code = tests[i].code();
      DEJA_CHECK(code.size() <= sizeof slot.code);
      slot.initial = tests[i].initial;
      slot.end = tests[i].end();
      slot.code_offset = static_cast<u32>(tests[i].start - kCodeAddress);
      slot.code_length = static_cast<u32>(code.size());
      std::copy(code.begin(), code.end(), slot.code);
      std::copy(tests[i].data.begin(), tests[i].data.end(), slot.data);
    }
    shared_->count = static_cast<u32>(tests.size() - first);
    shared_->done = 0;
    u8 byte = 1;
    // The child answers within its timers; 60 s allow for a crowded host.
    pollfd wait = {socket_, POLLIN, 0};
    const bool answered = send(socket_, &byte, 1, MSG_NOSIGNAL) == 1 && poll(&wait, 1, 60000) == 1 &&
                          read(socket_, &byte, 1) == 1;
    const std::size_t done = shared_->done;
    for (std::size_t i = 0; i < done; i++) results[first + i] = shared_->slot[i].result;
    first += done;
    if (!answered) {
      // The test at `first` killed the child: it stays End::excluded.
      close(socket_);
      start_child();
      first++;
    }
  }
  return results;
}

}  // namespace deja::fuzz
