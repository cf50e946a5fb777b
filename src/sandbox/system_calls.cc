#include "sandbox/system_calls.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/sched.h>
#include <linux/sockios.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <initializer_list>

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
    if (failed_) return make_error("sandbox: the filter of system calls: {}", std::strerror(failed_));
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
scmp_arg_cmp masked(unsigned argument, u64 mask, u64 value) {
  return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

// Memory, threads, signals to itself, time, and descriptors that are open.
void allow_computing(Filter& f) {
  f.allow({SCMP_SYS(read),      SCMP_SYS(readv),     SCMP_SYS(pread64),     SCMP_SYS(preadv),
           SCMP_SYS(write),     SCMP_SYS(writev),    SCMP_SYS(pwrite64),    SCMP_SYS(pwritev),
           SCMP_SYS(lseek),     SCMP_SYS(close),     SCMP_SYS(close_range), SCMP_SYS(fstat),
           SCMP_SYS(fsync),     SCMP_SYS(fdatasync), SCMP_SYS(ftruncate),   SCMP_SYS(fallocate),
           SCMP_SYS(fadvise64), SCMP_SYS(flock),     SCMP_SYS(sendfile),    SCMP_SYS(copy_file_range)});
  f.allow({SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg), SCMP_SYS(shutdown), SCMP_SYS(poll),
           SCMP_SYS(ppoll), SCMP_SYS(select), SCMP_SYS(pselect6), SCMP_SYS(pipe2), SCMP_SYS(eventfd2),
           SCMP_SYS(signalfd4), SCMP_SYS(getsockopt)});
  f.allow(SCMP_SYS(newfstatat), {masked(3, AT_EMPTY_PATH, AT_EMPTY_PATH)});  // what libc makes of fstat
  f.allow(SCMP_SYS(sendto), {equals(4, 0)});  // no address: where the descriptor leads
  f.allow({SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise), SCMP_SYS(brk), SCMP_SYS(memfd_create),
           SCMP_SYS(msync), SCMP_SYS(mincore), SCMP_SYS(membarrier)});
  f.allow({SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(sched_yield),
           SCMP_SYS(sched_getaffinity), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(restart_syscall),
           SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(sigaltstack),
           SCMP_SYS(wait4), SCMP_SYS(arch_prctl)});
  f.allow({SCMP_SYS(clock_gettime), SCMP_SYS(clock_nanosleep), SCMP_SYS(nanosleep), SCMP_SYS(gettimeofday),
           SCMP_SYS(time),          SCMP_SYS(clock_getres),    SCMP_SYS(getrandom), SCMP_SYS(getpid),
           SCMP_SYS(gettid),        SCMP_SYS(getppid),         SCMP_SYS(getuid),    SCMP_SYS(geteuid),
           SCMP_SYS(getgid),        SCMP_SYS(getegid),         SCMP_SYS(getpgrp),   SCMP_SYS(uname),
           SCMP_SYS(sysinfo),       SCMP_SYS(getrusage),       SCMP_SYS(getcwd),    SCMP_SYS(umask)});
  f.allow(SCMP_SYS(prctl), {equals(0, PR_SET_NAME)});
  f.allow(SCMP_SYS(prlimit64), {equals(2, 0)});  // looking, not setting
  // Threads, not processes. clone3 has its flags in memory, where no filter can look; without it, clone is
  // used.
  f.allow(SCMP_SYS(clone), {masked(0, CLONE_THREAD, CLONE_THREAD)});
  f.refuse(SCMP_SYS(clone3), ENOSYS);
  const u64 self = static_cast<u64>(::getpid());
  f.allow(SCMP_SYS(kill), {equals(0, self)});
  f.allow(SCMP_SYS(tgkill), {equals(0, self)});
  for (const int command : {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK,
                            F_OFD_SETLK, F_ADD_SEALS})
    f.allow(SCMP_SYS(fcntl), {equals(1, static_cast<u64>(command))});
  // Nothing becomes executable that was not mapped so, and nothing is writable at the same time.
  f.allow(SCMP_SYS(mmap), {masked(2, PROT_EXEC, 0)});
  f.allow(SCMP_SYS(mprotect), {masked(2, PROT_EXEC, 0)});
}

// By path, for Landlock to judge. Looking at a file's date or size is allowed anywhere: nothing can forbid
// it.
void allow_files(Filter& f) {
  f.allow({SCMP_SYS(open),       SCMP_SYS(openat),    SCMP_SYS(stat),       SCMP_SYS(lstat),
           SCMP_SYS(newfstatat), SCMP_SYS(statx),     SCMP_SYS(access),     SCMP_SYS(faccessat),
           SCMP_SYS(faccessat2), SCMP_SYS(readlink),  SCMP_SYS(readlinkat), SCMP_SYS(getdents64),
           SCMP_SYS(unlink),     SCMP_SYS(unlinkat),  SCMP_SYS(rename),     SCMP_SYS(renameat),
           SCMP_SYS(renameat2),  SCMP_SYS(mkdir),     SCMP_SYS(mkdirat),    SCMP_SYS(rmdir),
           SCMP_SYS(symlink),    SCMP_SYS(symlinkat), SCMP_SYS(link),       SCMP_SYS(linkat),
           SCMP_SYS(fchmod),     SCMP_SYS(truncate),  SCMP_SYS(statfs),     SCMP_SYS(fstatfs)});
}

void allow_engine(Filter& f) {
  allow_files(f);
  // Of the code cache: memory that is shared with a mapping that is writable, and is not writable itself.
  f.allow(SCMP_SYS(mmap), {masked(2, PROT_EXEC | PROT_WRITE, PROT_EXEC), masked(3, MAP_TYPE, MAP_SHARED)});
  f.allow({SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(setsockopt), SCMP_SYS(getsockname)});
  // Terminals; never TIOCSTI, with which one types for others.
  for (const u64 request : {u64{TCGETS}, u64{TCSETS}, u64{TCSETSW}, u64{TCSETSF}, u64{TIOCGWINSZ},
                            u64{TIOCGPGRP}, u64{FIONREAD}, u64{FICLONE}})
    f.allow(SCMP_SYS(ioctl), {equals(1, request)});
}

void allow_network(Filter& f) {
  for (const int family : {AF_INET, AF_INET6})
    for (const int type : {SOCK_STREAM, SOCK_DGRAM})
      f.allow(SCMP_SYS(socket),
              {equals(0, static_cast<u64>(family)), masked(1, 0xf, static_cast<u64>(type))});
  f.allow({SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(listen), SCMP_SYS(accept), SCMP_SYS(accept4),
           SCMP_SYS(sendto), SCMP_SYS(setsockopt), SCMP_SYS(getsockname), SCMP_SYS(getpeername)});
  for (const u64 request : {u64{FIONREAD}, u64{FIONBIO}, u64{SIOCATMARK}})
    f.allow(SCMP_SYS(ioctl), {equals(1, request)});
  f.allow({SCMP_SYS(open), SCMP_SYS(openat), SCMP_SYS(stat), SCMP_SYS(newfstatat)});
}

}  // namespace

Status filter_system_calls(Confined what) {
  Filter f;
  allow_computing(f);
  switch (what) {
    case Confined::engine:
      allow_engine(f);
      break;
    case Confined::keeper:
      allow_files(f);
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
