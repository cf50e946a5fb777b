#include "sandbox/system_calls.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/sched.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <initializer_list>

#include "base/host_limits.h"
#include "base/types.h"

namespace deja {
namespace {

class Filter {
 public:
  Filter() : context_(seccomp_init(SCMP_ACT_ERRNO(EPERM))) {
    if (!context_) failed_ = ENOMEM;
    // Without this, older kernels slow the whole process down to keep speculation from reading past the
    // filter: there is nothing in this process that the guest's code may not see (docs/security.md).
    set(SCMP_FLTATR_CTL_SSB, 1);
    set(SCMP_FLTATR_CTL_TSYNC, 1);
    set(SCMP_FLTATR_CTL_OPTIMIZE, 2);
    set(SCMP_FLTATR_API_SYSRAWRC, 1);  // the kernel's own errors
  }
  ~Filter() {
    if (context_) seccomp_release(context_);
  }
  Filter(const Filter&) = delete;

  void allow(std::initializer_list<int> calls) {
    for (const int call : calls) add(SCMP_ACT_ALLOW, call, {});
  }
  // All conditions must hold; several rules for a call are alternatives.
  void allow(int call, std::initializer_list<scmp_arg_cmp> conditions) {
    add(SCMP_ACT_ALLOW, call, conditions);
  }
  void refuse(int call, int error) { add(SCMP_ACT_ERRNO(static_cast<u32>(error)), call, {}); }
  Status load() {
    if (!failed_) keep(seccomp_load(context_));
    if (failed_)
      return make_error("the kernel takes no filter of system calls (seccomp) from this process: {}",
                        host_error(failed_));
    return {};
  }

 private:
  void keep(int result) {
    if (result < 0 && !failed_) failed_ = -result;
  }
  void set(scmp_filter_attr attribute, u32 value) {
    if (context_) keep(seccomp_attr_set(context_, attribute, value));
  }
  void add(u32 action, int call, std::initializer_list<scmp_arg_cmp> conditions) {
    if (context_)
      keep(seccomp_rule_add_array(context_, action, call, static_cast<unsigned>(conditions.size()),
                                  conditions.begin()));
  }
  scmp_filter_ctx context_;
  int failed_ = 0;
};

scmp_arg_cmp equals(unsigned argument, u64 value) { return {argument, SCMP_CMP_EQ, value, 0}; }
scmp_arg_cmp below(unsigned argument, u64 value) { return {argument, SCMP_CMP_LT, value, 0}; }
scmp_arg_cmp masked(unsigned argument, u64 mask, u64 value) {
  return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

constexpr u64 kTemporary = O_TMPFILE & ~O_DIRECTORY;
// No thread may be one in other namespaces, which root could ask for.
constexpr u64 kOtherNamespace = u64{CLONE_NEWNS} | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
constexpr u64 kLeastOfPrivilegedAdvice = 100;  // MADV_HWPOISON, with which root takes memory from the host

// Memory, threads, signals to itself, time, and descriptors that are open.
void allow_computing(Filter& f) {
  f.allow({SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(pread64), SCMP_SYS(preadv), SCMP_SYS(write),
           SCMP_SYS(writev), SCMP_SYS(pwrite64), SCMP_SYS(pwritev), SCMP_SYS(lseek), SCMP_SYS(close),
           SCMP_SYS(fstat)});
  f.allow({SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(poll), SCMP_SYS(ppoll)});
  f.allow(SCMP_SYS(newfstatat), {masked(3, AT_EMPTY_PATH, AT_EMPTY_PATH)});  // what libc makes of fstat
  f.allow(SCMP_SYS(sendto), {equals(4, 0)});  // no address: where the descriptor leads
  f.allow({SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(brk), SCMP_SYS(memfd_create)});
  f.allow(SCMP_SYS(madvise), {below(2, kLeastOfPrivilegedAdvice)});
  f.allow({SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(sched_yield),
           SCMP_SYS(sched_getaffinity), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(restart_syscall),
           SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
           SCMP_SYS(wait4)});
  f.allow({SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep), SCMP_SYS(gettimeofday),
           SCMP_SYS(time), SCMP_SYS(clock_getres), SCMP_SYS(getrandom), SCMP_SYS(getpid), SCMP_SYS(gettid),
           SCMP_SYS(getppid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid),
           SCMP_SYS(getpgrp), SCMP_SYS(uname), SCMP_SYS(sysinfo), SCMP_SYS(getrusage), SCMP_SYS(getcwd)});
  f.allow(SCMP_SYS(prctl), {equals(0, PR_SET_NAME)});
  f.allow(SCMP_SYS(prlimit64), {equals(0, 0), equals(2, 0)});  // looking at its own, not setting
  // Threads, not processes. clone3 has its flags in memory, where no filter can look; without it, clone is
  // used.
  f.allow(SCMP_SYS(clone), {masked(0, CLONE_THREAD | kOtherNamespace, CLONE_THREAD)});
  f.refuse(SCMP_SYS(clone3), ENOSYS);
  const u64 self = static_cast<u64>(::getpid());
  f.allow(SCMP_SYS(kill), {equals(0, self)});
  f.allow(SCMP_SYS(tgkill), {equals(0, self)});
  for (const int command : {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL})
    f.allow(SCMP_SYS(fcntl), {equals(1, static_cast<u64>(command))});
  // Nothing becomes executable any more: code caches are mapped before (execute/cache/code_memory.h).
  f.allow(SCMP_SYS(mmap), {masked(2, PROT_EXEC, 0)});
  f.allow(SCMP_SYS(mprotect), {masked(2, PROT_EXEC, 0)});
}

// By path, for Landlock to judge; it judges by how a file is opened. Before its version 3 it lets every file
// be emptied that is opened for reading, or with both bits of the access mode, which mean neither reading nor
// writing: so these are refused here, and with them truncate(2).
void allow_open(Filter& f, u64 mask, u64 value) {
  constexpr u64 kNeither = kTemporary | O_PATH;
  f.allow(SCMP_SYS(open), {masked(1, O_ACCMODE | kNeither | mask, value)});
  f.allow(SCMP_SYS(openat), {masked(2, O_ACCMODE | kNeither | mask, value)});
}

// Looking at a file's date or size is allowed anywhere: nothing can forbid it.
void allow_reading(Filter& f) {
  allow_open(f, O_CREAT | O_TRUNC, O_RDONLY);
  f.allow({SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(access),
           SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(readlinkat),
           SCMP_SYS(getdents64)});
}

void allow_writing(Filter& f) {
  for (const u64 mode : {O_WRONLY, O_RDWR}) allow_open(f, 0, mode);
  f.allow({SCMP_SYS(ftruncate), SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(flock), SCMP_SYS(unlink),
           SCMP_SYS(unlinkat), SCMP_SYS(rmdir), SCMP_SYS(rename), SCMP_SYS(renameat), SCMP_SYS(renameat2)});
  f.allow(SCMP_SYS(ioctl), {equals(1, FICLONE)});
}

void allow_engine(Filter& f) {
  allow_reading(f);
  f.allow({SCMP_SYS(ftruncate), SCMP_SYS(flock)});  // memory files; whether a recording is being made
  f.allow({SCMP_SYS(select), SCMP_SYS(pselect6), SCMP_SYS(signalfd4), SCMP_SYS(accept), SCMP_SYS(accept4)});
  f.allow(SCMP_SYS(setsockopt), {equals(1, IPPROTO_TCP), equals(2, TCP_NODELAY)});
  // Terminals; never TIOCSTI, with which one types for others.
  for (const u64 request :
       {u64{TCGETS}, u64{TCSETS}, u64{TCSETSW}, u64{TCSETSF}, u64{TIOCGWINSZ}, u64{TIOCGPGRP}, u64{FIONREAD}})
    f.allow(SCMP_SYS(ioctl), {equals(1, request)});
}

void allow_network(Filter& f) {
  for (const int family : {AF_INET, AF_INET6})
    for (const int type : {SOCK_STREAM, SOCK_DGRAM})
      f.allow(SCMP_SYS(socket),
              {equals(0, static_cast<u64>(family)), masked(1, 0xf, static_cast<u64>(type))});
  f.allow({SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(listen), SCMP_SYS(accept), SCMP_SYS(accept4),
           SCMP_SYS(sendto), SCMP_SYS(setsockopt), SCMP_SYS(getsockopt), SCMP_SYS(getsockname),
           SCMP_SYS(getpeername), SCMP_SYS(shutdown)});
  for (const u64 request : {u64{FIONREAD}, u64{FIONBIO}, u64{SIOCATMARK}})
    f.allow(SCMP_SYS(ioctl), {equals(1, request)});
  allow_reading(f);
}

}  // namespace

Status filter_system_calls(Confined what) {
  Filter f;
  allow_computing(f);
  switch (what) {
    case Confined::recorder:
      allow_writing(f);
      [[fallthrough]];
    case Confined::replayer:
      allow_engine(f);
      break;
    case Confined::keeper:
      allow_reading(f);
      allow_writing(f);
      f.allow({SCMP_SYS(mkdir), SCMP_SYS(mkdirat), SCMP_SYS(symlink), SCMP_SYS(symlinkat)});
      break;
    case Confined::maker:
      allow_open(f, O_CREAT | O_EXCL | O_TRUNC, O_WRONLY | O_CREAT | O_EXCL);
      f.allow({SCMP_SYS(ftruncate)});
      break;
    case Confined::network:
      allow_network(f);
      break;
    case Confined::reader:
      break;
  }
  return f.load();
}

}  // namespace deja
