// Tries to break out of the sandbox. Each attempt is made by a process of its own, after it has entered.
#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "sandbox/file_access.h"
#include "sandbox/helper_process.h"
#include "sandbox/outside_file.h"
#include "sandbox/system_calls.h"

namespace deja {
namespace {

namespace fs = std::filesystem;

class SandboxTest : public testing::Test {
 protected:
  void SetUp() override {
    if (auto version = landlock_version(); !version) GTEST_SKIP() << version.error().message;
    std::string name = (fs::temp_directory_path() / "deja-sandbox-XXXXXX").string();
    dir_ = ::mkdtemp(name.data());
    fs::create_directories(dir_ / "readable");
    fs::create_directories(dir_ / "writable");
    fs::create_directories(dir_ / "new");
    std::ofstream(dir_ / "secret") << "secret";
    std::ofstream(dir_ / "readable/file") << "text";
  }
  void TearDown() override {
    std::error_code ec;
    if (!dir_.empty()) fs::remove_all(dir_, ec);
  }

  // The exit status of a process that does `attempt` after `enter`; both may return false.
  static int in_child(const std::function<bool()>& enter, const std::function<bool()>& attempt) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(!enter() ? 2 : attempt() ? 0 : 1);
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }
  // Does `attempt` succeed in an engine that may read and write one directory each?
  bool engine_can(const std::function<bool()>& attempt) {
    const int status = in_child(
        [&] {
          sandbox::set_mode(SandboxMode::strict);
          sandbox::allow_read(dir_ / "readable");
          sandbox::allow_write(dir_ / "writable");
          return sandbox::enter().ok();
        },
        attempt);
    EXPECT_TRUE(status == 0 || status == 1) << "ended with " << status;
    return status == 0;
  }
  // Those in which rights were added, as far as this kernel knows them.
  static std::vector<int> versions() {
    std::vector<int> known;
    for (const int version : {1, 2, 3, 5})
      if (version <= *landlock_version()) known.push_back(version);
    return known;
  }
  // The same directories, in a process as `what` on a kernel with that version of Landlock.
  int status_in(Confined what, int version, const std::function<bool()>& attempt) {
    const FileAccess files{{dir_ / "readable"}, {dir_ / "writable"}, {dir_ / "new"}, {}};
    return in_child(
        [&] {
          return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && limit_files(files, version).ok() &&
                 filter_system_calls(what).ok();
        },
        attempt);
  }
  static bool can(Confined what, const std::function<bool()>& attempt) {
    const int status = in_child(
        [&] { return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && filter_system_calls(what).ok(); },
        attempt);
    EXPECT_TRUE(status == 0 || status == 1) << "ended with " << status;
    return status == 0;
  }
  static bool opens(const fs::path& path, int flags) {
    const int fd = ::open(path.c_str(), flags | O_CLOEXEC, 0600);
    if (fd >= 0) ::close(fd);
    return fd >= 0;
  }
  static bool refused(long result) { return result == -1 && (errno == EPERM || errno == EACCES); }
  static bool connects() {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(9);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int s = ::socket(AF_INET, SOCK_STREAM, 0);
    // Nobody listens there: to be told so one must have been let through.
    return s >= 0 &&
           (::connect(s, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0 || errno == ECONNREFUSED);
  }

  fs::path dir_;
};

TEST_F(SandboxTest, EngineOpensOnlyWhatItWasGiven) {
  EXPECT_TRUE(engine_can([&] { return opens(dir_ / "readable/file", O_RDONLY); }));
  EXPECT_FALSE(engine_can([&] { return opens(dir_ / "readable/file", O_WRONLY); }));
  EXPECT_FALSE(engine_can([&] { return opens(dir_ / "readable/new", O_WRONLY | O_CREAT); }));
  EXPECT_TRUE(engine_can([&] { return opens(dir_ / "writable/new", O_RDWR | O_CREAT); }));
  EXPECT_TRUE(engine_can([&] {
    return ::rename((dir_ / "writable/new").c_str(), (dir_ / "writable/other").c_str()) == 0 &&
           ::unlink((dir_ / "writable/other").c_str()) == 0;
  }));
  for (const fs::path& path :
       {dir_ / "secret", dir_ / "readable/../secret", fs::path("/etc/passwd"), fs::path("/proc/self/mem"),
        fs::path("/proc/1/environ"), fs::path("/dev/null")})
    EXPECT_FALSE(engine_can([&] { return opens(path, O_RDONLY); })) << path;
}

TEST_F(SandboxTest, WhatWasOpenBeforeDoesNotStayOpen) {
  std::vector<int> inherited;
  int own = -1;
  const auto is_open = [](int fd) { return ::fcntl(fd, F_GETFD) >= 0; };
  EXPECT_EQ(in_child(
                [&] {
                  for (const int least : {0, 10, 100})
                    inherited.push_back(::fcntl(STDERR_FILENO, F_DUPFD, least));
                  sandbox::note_inherited_descriptors();
                  own = ::dup(STDERR_FILENO);
                  sandbox::set_mode(SandboxMode::strict);
                  return std::all_of(inherited.begin(), inherited.end(), is_open) && sandbox::enter().ok();
                },
                [&] {
                  return std::none_of(inherited.begin(), inherited.end(), is_open) && is_open(own) &&
                         is_open(0) && is_open(1) && is_open(2);
                }),
            0);
}

TEST_F(SandboxTest, LinksLeadNowhereElse) {
  fs::create_symlink(dir_ / "secret", dir_ / "writable/link");
  EXPECT_FALSE(engine_can([&] { return opens(dir_ / "writable/link", O_RDONLY); }));
  EXPECT_FALSE(engine_can([&] {
    return ::link((dir_ / "secret").c_str(), (dir_ / "writable/hard").c_str()) == 0 &&
           opens(dir_ / "writable/hard", O_RDONLY);
  }));
  EXPECT_FALSE(engine_can(
      [&] { return ::rename((dir_ / "secret").c_str(), (dir_ / "writable/stolen").c_str()) == 0; }));
  EXPECT_FALSE(engine_can([&] { return ::unlink((dir_ / "secret").c_str()) == 0; }));
  EXPECT_TRUE(fs::exists(dir_ / "secret"));
}

TEST_F(SandboxTest, EngineHasNoNetwork) {
  EXPECT_FALSE(engine_can([] { return connects(); }));
  for (const int family : {AF_INET, AF_INET6, AF_UNIX, AF_NETLINK, AF_PACKET, AF_VSOCK})
    for (const int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW})
      EXPECT_FALSE(engine_can([&] { return !refused(::socket(family, type, 0)); })) << family << ' ' << type;
}

TEST_F(SandboxTest, EngineStartsNothingAndReachesNoOtherProcess) {
  const pid_t other = ::getpid();
  EXPECT_FALSE(engine_can([] {
    char* const arguments[] = {nullptr};
    return !refused(::execve("/bin/true", arguments, arguments));
  }));
  EXPECT_FALSE(engine_can([] { return !refused(::syscall(SYS_fork)); }));
  EXPECT_FALSE(engine_can([] { return !refused(::syscall(SYS_vfork)); }));
  EXPECT_FALSE(
      engine_can([] { return !refused(::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr)); }));
  EXPECT_FALSE(engine_can([] { return ::syscall(SYS_clone3, nullptr, 0) != -1 || errno != ENOSYS; }));
  EXPECT_FALSE(engine_can([&] { return !refused(::ptrace(PTRACE_ATTACH, other, nullptr, nullptr)); }));
  EXPECT_FALSE(engine_can([&] { return !refused(::kill(other, 0)); }));
  EXPECT_FALSE(engine_can([&] { return !refused(::kill(-1, SIGCONT)); }));
  EXPECT_FALSE(engine_can([&] { return !refused(::syscall(SYS_tgkill, other, other, 0)); }));
  EXPECT_FALSE(engine_can([&] { return !refused(::syscall(SYS_pidfd_open, other, 0)); }));
  EXPECT_FALSE(engine_can([&] {
    char byte = 0;
    iovec here{&byte, 1}, there{&byte, 1};
    return !refused(::process_vm_readv(other, &here, 1, &there, 1, 0));
  }));
}

TEST_F(SandboxTest, EngineMakesNoDataExecutable) {
  constexpr int kCode = PROT_READ | PROT_EXEC, kBoth = PROT_READ | PROT_WRITE | PROT_EXEC;
  EXPECT_FALSE(engine_can([&] {
    void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return !refused(::mprotect(page, 4096, kCode));
  }));
  EXPECT_FALSE(engine_can(
      [&] { return ::mmap(nullptr, 4096, kCode, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED; }));
  EXPECT_FALSE(engine_can(
      [&] { return ::mmap(nullptr, 4096, kBoth, MAP_SHARED | MAP_ANONYMOUS, -1, 0) != MAP_FAILED; }));
}

TEST_F(SandboxTest, EngineReachesNothingElseOfTheKernel) {
  EXPECT_FALSE(engine_can([] { return !refused(::syscall(SYS_io_uring_setup, 1, nullptr)); }));
  EXPECT_FALSE(engine_can([] { return !refused(::syscall(SYS_bpf, 0, nullptr, 0)); }));
  EXPECT_FALSE(engine_can([] { return !refused(::syscall(SYS_perf_event_open, nullptr, 0, -1, -1, 0)); }));
  EXPECT_FALSE(engine_can([] { return !refused(::syscall(SYS_userfaultfd, 0)); }));
  EXPECT_FALSE(engine_can([] { return !refused(::syscall(SYS_mount, "x", "/", "tmpfs", 0, nullptr)); }));
  EXPECT_FALSE(engine_can([] { return !refused(::syscall(SYS_unshare, 0x10000000)); }));
  EXPECT_FALSE(engine_can([] { return !refused(::syscall(SYS_keyctl, 0, 0)); }));
  EXPECT_FALSE(engine_can([] { return !refused(::ioctl(0, TIOCSTI, "x")); }));
  EXPECT_FALSE(engine_can([&] { return !refused(::chmod(dir_.c_str(), 0777)); }));
  EXPECT_FALSE(engine_can([] { return !refused(::chdir("/")); }));
}

TEST_F(SandboxTest, ThreadsStartedLaterAreConfinedToo) {
  EXPECT_FALSE(engine_can([&] {
    std::atomic<bool> got = false;
    std::thread([&] {
      got = opens(dir_ / "secret", O_RDONLY) || ::socket(AF_INET, SOCK_STREAM, 0) >= 0;
    }).join();
    return got.load();
  }));
}

TEST_F(SandboxTest, WhatTheEngineNeedsStillWorks) {
  EXPECT_TRUE(engine_can([] {
    const int memory = ::memfd_create("table", MFD_CLOEXEC);
    if (::ftruncate(memory, 4096)) return false;
    if (::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0) == MAP_FAILED) return false;
    std::signal(SIGUSR1, SIG_IGN);
    return std::raise(SIGUSR1) == 0;
  }));
  EXPECT_TRUE(engine_can([&] {
    std::ofstream(dir_ / "writable/manifest.new") << "text";
    fs::rename(dir_ / "writable/manifest.new", dir_ / "writable/manifest");
    return fs::remove(dir_ / "writable/manifest");
  }));
}

// Each is a system call that must be refused, whatever Landlock the kernel has. They are made on a file that
// may be read and on one that may not.
struct FileAttempt {
  const char* what;
  std::function<long(const char* path, const char* other)> make;
};

const std::vector<FileAttempt>& file_attempts() {
  static const std::vector<FileAttempt> all{
      {"truncate", [](auto p, auto) { return ::truncate(p, 0); }},
      {"open to read, emptied", [](auto p, auto) { return ::open(p, O_RDONLY | O_TRUNC); }},
      {"openat to read, emptied", [](auto p, auto) { return ::openat(AT_FDCWD, p, O_RDONLY | O_TRUNC); }},
      {"open neither to read nor to write, emptied",
       [](auto p, auto) { return ::open(p, O_ACCMODE | O_TRUNC); }},
      {"open neither to read nor to write", [](auto p, auto) { return ::open(p, O_ACCMODE); }},
      {"open to write", [](auto p, auto) { return ::open(p, O_WRONLY); }},
      {"open to write, emptied", [](auto p, auto) { return ::open(p, O_WRONLY | O_TRUNC); }},
      {"open to read and write, emptied", [](auto p, auto) { return ::open(p, O_RDWR | O_TRUNC); }},
      {"open to read, made", [](auto p, auto) { return ::open(p, O_RDONLY | O_CREAT, 0600); }},
      {"open as a path", [](auto p, auto) { return ::open(p, O_PATH); }},
      {"open a file without a name",
       [](auto p, auto) { return ::open(fs::path(p).parent_path().c_str(), O_TMPFILE | O_RDWR, 0600); }},
      {"the system call open", [](auto p, auto) { return ::syscall(SYS_open, p, O_RDONLY | O_TRUNC); }},
      {"creat", [](auto p, auto) { return ::syscall(SYS_creat, p, 0600); }},
      {"openat2",
       [](auto p, auto) {
         const unsigned long how[3] = {O_RDONLY | O_TRUNC, 0, 0};
         return ::syscall(SYS_openat2, AT_FDCWD, p, how, sizeof how);
       }},
      {"name_to_handle_at",
       [](auto p, auto) {
         char handle[128] = {};
         int mount = 0;
         return ::syscall(SYS_name_to_handle_at, AT_FDCWD, p, handle, &mount, 0);
       }},
      {"open_by_handle_at", [](auto, auto) { return ::syscall(SYS_open_by_handle_at, 0, nullptr, O_RDWR); }},
      {"unlink", [](auto p, auto) { return ::unlink(p); }},
      {"unlinkat", [](auto p, auto) { return ::unlinkat(AT_FDCWD, p, 0); }},
      {"rename away", [](auto p, auto o) { return ::rename(p, o); }},
      {"rename over it", [](auto p, auto o) { return ::rename(o, p); }},
      {"exchange", [](auto p, auto o) { return ::renameat2(AT_FDCWD, p, AT_FDCWD, o, RENAME_EXCHANGE); }},
      {"link", [](auto p, auto o) { return ::link(p, (std::string(o) + "-link").c_str()); }},
      {"linkat",
       [](auto p, auto o) { return ::linkat(AT_FDCWD, p, AT_FDCWD, (std::string(o) + "-link").c_str(), 0); }},
      {"symlink", [](auto p, auto o) { return ::symlink(p, (std::string(o) + "-link").c_str()); }},
      {"mkdir beside it", [](auto p, auto) { return ::mkdir((std::string(p) + "-dir").c_str(), 0700); }},
      {"mkdir", [](auto, auto o) { return ::mkdir((std::string(o) + "-dir").c_str(), 0700); }},
      {"mknod", [](auto, auto o) { return ::mknod((std::string(o) + "-fifo").c_str(), S_IFIFO | 0600, 0); }},
      {"chmod", [](auto p, auto) { return ::chmod(p, 0); }},
      {"chown", [](auto p, auto) { return ::chown(p, 1, 1); }},
      {"utimensat", [](auto p, auto) { return ::utimensat(AT_FDCWD, p, nullptr, 0); }},
      {"setxattr", [](auto p, auto) { return ::syscall(SYS_setxattr, p, "user.x", "x", 1, 0); }},
      {"execve",
       [](auto p, auto) {
         char* const none[] = {nullptr};
         return ::execve(p, none, none);
       }},
      {"execveat", [](auto p, auto) { return ::syscall(SYS_execveat, AT_FDCWD, p, nullptr, nullptr, 0); }},
      {"uselib", [](auto p, auto) { return ::syscall(SYS_uselib, p); }},
      {"swapon", [](auto p, auto) { return ::syscall(SYS_swapon, p, 0); }},
      {"acct", [](auto p, auto) { return ::syscall(SYS_acct, p); }},
  };
  return all;
}

TEST_F(SandboxTest, NoFileElsewhereIsTouchedWhateverLandlockCanDo) {
  const fs::path other = dir_ / "writable/other";
  const std::vector<fs::path> paths{dir_ / "secret", dir_ / "readable/file"};
  const auto permissions = fs::status(paths[0]).permissions();
  const auto all_refused = [&] {
    bool all = true;
    for (const FileAttempt& attempt : file_attempts())
      for (const fs::path& path : paths)
        if (!refused(attempt.make(path.c_str(), other.c_str()))) {
          std::fprintf(stderr, "not refused: %s of %s\n", attempt.what, path.c_str());
          all = false;
        }
    return all;
  };
  for (const int version : versions()) {
    for (const Confined what :
         {Confined::recorder, Confined::replayer, Confined::maker, Confined::network, Confined::reader}) {
      SCOPED_TRACE(fmt::format("Landlock {}, as {}", version, static_cast<int>(what)));
      std::ofstream(other) << "mine";
      EXPECT_EQ(status_in(what, version, all_refused), 0);
      for (const fs::path& path : paths) {
        EXPECT_GT(fs::file_size(path), 0u) << path;
        EXPECT_EQ(fs::status(path).permissions(), permissions) << path;
      }
    }
  }
}

// Open files are used as they were opened.
TEST_F(SandboxTest, ADescriptorForReadingGivesNoMore) {
  for (const int version : versions()) {
    for (const Confined what : {Confined::recorder, Confined::replayer, Confined::reader}) {
      const int fd = ::open((dir_ / "readable/file").c_str(), O_RDONLY | O_CLOEXEC);
      const std::string again = "/proc/self/fd/" + std::to_string(fd);
      const int status = status_in(what, version, [&] {
        return ::ftruncate(fd, 0) != 0 && ::write(fd, "x", 1) != 1 && ::fallocate(fd, 0, 0, 1) != 0 &&
               refused(::fchmod(fd, 0)) && refused(::fchown(fd, 1, 1)) &&
               refused(::open(again.c_str(), O_WRONLY)) &&
               refused(::open(again.c_str(), O_ACCMODE | O_TRUNC)) &&
               refused(::syscall(SYS_execveat, fd, "", nullptr, nullptr, AT_EMPTY_PATH)) &&
               ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0) == MAP_FAILED &&
               ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED;
      });
      ::close(fd);
      EXPECT_EQ(status, 0) << "Landlock " << version << ", as " << static_cast<int>(what);
      EXPECT_GT(fs::file_size(dir_ / "readable/file"), 0u);
    }
  }
}

TEST_F(SandboxTest, AMakerOfFilesMakesNewOnesOnly) {
  for (const int version : versions()) {
    const fs::path made = dir_ / "new/made";
    fs::remove(made);
    EXPECT_EQ(status_in(Confined::maker, version,
                        [&] {
                          const int fd = ::open(made.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
                          return fd >= 0 && ::write(fd, "x", 1) == 1 && ::ftruncate(fd, 0) == 0;
                        }),
              0);
    EXPECT_TRUE(fs::exists(made));
    std::ofstream(made) << "text";
    const std::vector<int> ways{O_RDONLY,
                                O_WRONLY,
                                O_RDWR,
                                O_WRONLY | O_CREAT,
                                O_WRONLY | O_TRUNC,
                                O_RDWR | O_CREAT | O_EXCL,
                                O_WRONLY | O_CREAT | O_EXCL | O_TRUNC};
    for (const int flags : ways)
      EXPECT_EQ(
          status_in(Confined::maker, version, [&] { return refused(::open(made.c_str(), flags, 0600)); }), 0)
          << flags;
    EXPECT_EQ(status_in(Confined::maker, version,
                        [&] {
                          return ::open(made.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600) == -1 &&
                                 errno == EEXIST && !opens("/proc/self/mem", O_WRONLY | O_CREAT | O_EXCL) &&
                                 !opens(dir_ / "elsewhere", O_WRONLY | O_CREAT | O_EXCL) &&
                                 refused(::unlink(made.c_str()));
                        }),
              0);
    EXPECT_EQ(fs::file_size(made), 4u);
  }
}

TEST_F(SandboxTest, AReplayerMakesAndRemovesNothing) {
  std::ofstream(dir_ / "writable/file") << "text";
  const int status = status_in(Confined::replayer, *landlock_version(), [&] {
    return refused(::unlink((dir_ / "writable/file").c_str())) && !opens(dir_ / "writable/file", O_WRONLY) &&
           !opens(dir_ / "writable/new", O_WRONLY | O_CREAT);
  });
  EXPECT_EQ(status, 0);
}

// A rule that cannot be made must not be taken for a file that is not there.
TEST_F(SandboxTest, TooManyOpenFilesAreNotAMissingRule) {
  const int status = in_child(
      [] {
        const rlimit few{4, 4};  // room for the list of rules, and for nothing else
        return ::setrlimit(RLIMIT_NOFILE, &few) == 0 && ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
               ::close_range(3, ~0u, 0) == 0;
      },
      [&] {
        const Status limited = limit_files({.read = {dir_ / "readable"}}, *landlock_version());
        return !limited && limited.error().message.find("ulimit -n") != std::string::npos;
      });
  EXPECT_EQ(status, 0);
}

// Calls that are allowed with certain arguments fail with others.
TEST_F(SandboxTest, ArgumentsAreLookedAt) {
  const std::vector<std::pair<const char*, std::function<long()>>> attempts{
      {"mmap of a memory file as code",
       [] {
         const int memory = ::memfd_create("code", MFD_CLOEXEC);
         return ::write(memory, "x", 1) != 1
                    ? 0
                    : reinterpret_cast<long>(
                          ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, memory, 0));
       }},
      {"mmap of shared memory as code",
       [] {
         return reinterpret_cast<long>(
             ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
       }},
      {"mmap of only code",
       [] {
         return reinterpret_cast<long>(::mmap(nullptr, 4096, PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
       }},
      {"pkey_mprotect",
       [] { return ::syscall(SYS_pkey_mprotect, nullptr, 4096, PROT_READ | PROT_EXEC, -1); }},
      {"remap_file_pages", [] { return ::syscall(SYS_remap_file_pages, nullptr, 4096, 0, 0, 0); }},
      {"shmat", [] { return ::syscall(SYS_shmat, 0, nullptr, 0100000); }},
      {"shmget", [] { return ::syscall(SYS_shmget, 0, 4096, 01600); }},
      {"personality", [] { return ::syscall(SYS_personality, 0x0400000); }},
      {"execveat of memory",
       [] {
         const int memory = ::memfd_create("program", 0);
         return ::syscall(SYS_execveat, memory, "", nullptr, nullptr, AT_EMPTY_PATH);
       }},
      {"madvise that poisons memory",
       [] {
         void* page = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
         return static_cast<long>(::madvise(page, 4096, 101));  // MADV_SOFT_OFFLINE
       }},
      {"a thread in another network",
       [] {
         return ::syscall(SYS_clone, CLONE_THREAD | CLONE_SIGHAND | CLONE_VM | CLONE_NEWNET, 0, 0, 0, 0);
       }},
      {"prctl", [] { return ::prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); }},
      {"raising a limit",
       [] {
         const rlimit limit{1, 1};
         return ::syscall(SYS_prlimit64, 0, RLIMIT_NOFILE, &limit, nullptr);
       }},
      {"another process's limits",
       [] {
         rlimit limit{};
         return ::syscall(SYS_prlimit64, ::getppid(), RLIMIT_NOFILE, nullptr, &limit);
       }},
      {"fcntl F_SETOWN", [] { return ::fcntl(0, F_SETOWN, 1); }},
      {"fcntl F_NOTIFY", [] { return ::fcntl(0, F_NOTIFY, 1); }},
      {"ioctl TIOCLINUX", [] { return ::ioctl(0, 0x541c, nullptr); }},
      {"ioctl FIOASYNC", [] { return ::ioctl(0, FIOASYNC, nullptr); }},
      {"setsockopt", [] { return ::setsockopt(0, SOL_SOCKET, SO_ATTACH_FILTER, nullptr, 0); }},
      {"sendto an address",
       [] {
         const sockaddr_in to{};
         return ::sendto(0, "x", 1, 0, reinterpret_cast<const sockaddr*>(&to), sizeof to);
       }},
      {"dup2", [] { return ::syscall(SYS_dup2, 0, 1); }},
      {"dup3", [] { return ::syscall(SYS_dup3, 0, 1, 0); }},
      {"setrlimit", [] { return ::syscall(SYS_setrlimit, RLIMIT_NOFILE, nullptr); }},
      {"setns", [] { return ::syscall(SYS_setns, 0, 0); }},
      {"chroot", [] { return ::syscall(SYS_chroot, "/"); }},
      {"process_madvise", [] { return ::syscall(SYS_process_madvise, 0, nullptr, 0, 0, 0); }},
      {"pidfd_getfd", [] { return ::syscall(438, 0, 0, 0); }},
      {"memfd_secret", [] { return ::syscall(447, 0); }},
      {"seccomp", [] { return ::syscall(SYS_seccomp, 0, 0, nullptr); }},
  };
  for (const Confined what :
       {Confined::recorder, Confined::replayer, Confined::reader, Confined::keeper, Confined::maker})
    for (const auto& [name, attempt] : attempts)
      EXPECT_TRUE(can(what, [&] { return refused(attempt()); })) << name << ", as " << static_cast<int>(what);
}

// Numbers that no list names: of later kernels, too.
TEST_F(SandboxTest, OtherSystemCallsAreRefused) {
  const std::vector<int> allowed_somewhere{
      SYS_read, SYS_readv, SYS_pread64, SYS_preadv, SYS_write, SYS_writev, SYS_pwrite64, SYS_pwritev,
      SYS_lseek, SYS_close, SYS_fstat, SYS_recvfrom, SYS_recvmsg, SYS_sendmsg, SYS_poll, SYS_ppoll,
      SYS_newfstatat, SYS_sendto, SYS_munmap, SYS_mremap, SYS_brk, SYS_memfd_create, SYS_madvise, SYS_futex,
      SYS_set_robust_list, SYS_rseq, SYS_sched_yield, SYS_sched_getaffinity, SYS_exit, SYS_exit_group,
      SYS_restart_syscall, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn, SYS_sigaltstack, SYS_wait4,
      SYS_clock_gettime, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday, SYS_time, SYS_clock_getres,
      SYS_getrandom, SYS_getpid, SYS_gettid, SYS_getppid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid,
      SYS_getpgrp, SYS_uname, SYS_sysinfo, SYS_getrusage, SYS_getcwd, SYS_prctl, SYS_prlimit64, SYS_clone,
      SYS_clone3, SYS_kill, SYS_tgkill, SYS_fcntl, SYS_mmap, SYS_mprotect,
      // Files.
      SYS_open, SYS_openat, SYS_stat, SYS_lstat, SYS_statx, SYS_access, SYS_faccessat, SYS_faccessat2,
      SYS_readlink, SYS_readlinkat, SYS_getdents64, SYS_ftruncate, SYS_fsync, SYS_fdatasync, SYS_flock,
      SYS_unlink, SYS_unlinkat, SYS_rmdir, SYS_rename, SYS_renameat, SYS_renameat2,
      // An engine's.
      SYS_select, SYS_pselect6, SYS_signalfd4, SYS_accept, SYS_accept4, SYS_setsockopt, SYS_ioctl};
  // Calls of the kernel's own uprobes: no filter is asked, and the process ends if it was not probed.
  constexpr int kReturnProbe = 335, kProbe = 336;
  constexpr int kNumbers = 600;
  EXPECT_TRUE(can(Confined::recorder, [&] {
    bool all = true;
    for (int number = 0; number < kNumbers; ++number) {
      if (std::find(allowed_somewhere.begin(), allowed_somewhere.end(), number) != allowed_somewhere.end())
        continue;
      if (number == kReturnProbe || number == kProbe) continue;
      if (refused(::syscall(number, 0, 0, 0, 0, 0, 0))) continue;
      std::fprintf(stderr, "system call %d is not refused\n", number);
      all = false;
    }
    return all;
  }));
}

// Numbers mean other calls there.
TEST_F(SandboxTest, TheSystemCallsOf32BitProgramsEndTheProcess) {
  const int status =
      in_child([] { return filter_system_calls(Confined::recorder).ok(); },
               [] {
                 long result = 20;  // getpid
                 asm volatile("int $0x80" : "+a"(result) : : "memory", "r8", "r9", "r10", "r11");
                 return true;
               });
  EXPECT_EQ(status, -SIGSYS);
}

TEST_F(SandboxTest, ReadersHaveDescriptorsOnly) {
  EXPECT_FALSE(can(Confined::reader, [&] { return opens(dir_ / "readable/file", O_RDONLY); }));
  EXPECT_FALSE(can(Confined::reader, [] { return connects(); }));
  EXPECT_FALSE(can(Confined::reader, [&] { return !refused(::unlink((dir_ / "secret").c_str())); }));
}

TEST_F(SandboxTest, TheNetworksProcessConnectsAndNothingElse) {
  EXPECT_TRUE(can(Confined::network, [] { return connects(); }));
  EXPECT_FALSE(can(Confined::network, [] { return !refused(::socket(AF_UNIX, SOCK_STREAM, 0)); }));
  EXPECT_FALSE(can(Confined::network, [] { return !refused(::socket(AF_PACKET, SOCK_RAW, 0)); }));
  EXPECT_FALSE(can(Confined::network, [&] { return !refused(::unlink((dir_ / "secret").c_str())); }));
  EXPECT_FALSE(can(Confined::network, [] {
    char* const arguments[] = {nullptr};
    return !refused(::execve("/bin/true", arguments, arguments));
  }));
}

TEST_F(SandboxTest, AFileOutsideIsMadeAndRemovedByItsKeeperOnly) {
  const fs::path file = dir_ / "readable/output";
  const auto prepare = [&] {
    sandbox::set_mode(SandboxMode::strict);
    return prepare_outside_file(file).ok() && sandbox::enter().ok();
  };
  EXPECT_EQ(in_child(prepare,
                     [&] {
                       const int fd = create_outside_file(file, true);
                       return fd >= 0 && ::write(fd, "x", 1) == 1 && create_outside_file(file, true) == -1 &&
                              errno == EEXIST;
                     }),
            0);
  EXPECT_TRUE(fs::exists(file));
  EXPECT_EQ(in_child(prepare, [&] { return create_outside_file(dir_ / "readable/other", true) == -1; }), 0);
  EXPECT_EQ(in_child(prepare, [&] { return remove_outside_file(file), !fs::exists(file); }), 0);
}

TEST_F(SandboxTest, AKeeperRefusesWhatItDoesNotKnow) {
  const fs::path file = dir_ / "readable/file";
  int socket = -1;
  const auto prepare = [&] {
    socket = ::dup(STDERR_FILENO);  // the number that is free, which the keeper's socket gets
    ::close(socket);
    sandbox::set_mode(SandboxMode::strict);
    return prepare_outside_file(file).ok();
  };
  for (const std::string_view request : {"?", "rc", "cc", "xr"}) {
    EXPECT_EQ(in_child(prepare,
                       [&] {
                         int error = 0;
                         if (!send_message(socket, request, STDERR_FILENO)) return false;
                         const auto answer = receive_message(socket);
                         if (!answer || answer->bytes.size() != sizeof error) return false;
                         std::memcpy(&error, answer->bytes.data(), sizeof error);
                         return error == EINVAL && answer->fd == -1;
                       }),
              0)
        << request;
  }
  EXPECT_EQ(fs::file_size(file), 4u) << "it was emptied";
}

// As a sender that is not ours may do.
void send_descriptors(int socket, std::string_view bytes, unsigned count) {
  const std::vector<int> fds(count, STDERR_FILENO);
  alignas(cmsghdr) char control[256] = {};
  iovec part{const_cast<char*>(bytes.data()), bytes.size()};
  msghdr m{};
  m.msg_iov = &part;
  m.msg_iovlen = 1;
  m.msg_control = control;
  m.msg_controllen = CMSG_SPACE(count * sizeof(int));
  cmsghdr* const c = CMSG_FIRSTHDR(&m);
  c->cmsg_level = SOL_SOCKET;
  c->cmsg_type = SCM_RIGHTS;
  c->cmsg_len = CMSG_LEN(count * sizeof(int));
  std::memcpy(CMSG_DATA(c), fds.data(), count * sizeof(int));
  ASSERT_GE(::sendmsg(socket, &m, MSG_NOSIGNAL), 0);
}

TEST(HelperProcess, ADescriptorTooManyDoesNotStayOpen) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
  const auto next_number = [] {
    const int fd = ::dup(STDERR_FILENO);
    ::close(fd);
    return fd;
  };
  const int before = next_number();
  for (const unsigned count : {1, 2, 3, 20}) {
    send_descriptors(ends[0], "x", count);
    const auto message = receive_message(ends[1]);
    ASSERT_TRUE(message);
    EXPECT_EQ(message->fd, before);
    EXPECT_EQ(next_number(), before + 1) << count;
    ::close(message->fd);
  }
  send_descriptors(ends[0], "", 2);
  EXPECT_FALSE(receive_message(ends[1]));
  EXPECT_EQ(next_number(), before);
  for (const int end : ends) ::close(end);
}

TEST(HelperProcess, CarriesMessagesAndDescriptorsAndEndsWithItsSocket) {
  auto helper = HelperProcess::start("deja-test", [](int socket) {
    while (const auto message = receive_message(socket))
      send_message(socket, message->bytes + "!", message->fd);
    return 0;
  });
  ASSERT_TRUE(helper.ok());
  const int socket = (*helper)->socket();
  ASSERT_TRUE(send_message(socket, "hello", STDIN_FILENO));
  const auto answer = receive_message(socket);
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->bytes, "hello!");
  EXPECT_GE(answer->fd, 0);
  ::close(answer->fd);
  const std::string large(kMaxMessage - 1, 'x');
  ASSERT_TRUE(send_message(socket, large));
  EXPECT_EQ(receive_message(socket)->bytes, large + "!");
}

TEST(HelperProcess, ADeadOneIsNoticed) {
  auto helper = HelperProcess::start("deja-test", [](int) { return 0; });
  ASSERT_TRUE(helper.ok());
  bool gone = false;
  EXPECT_FALSE(receive_message((*helper)->socket(), true, &gone));
  EXPECT_TRUE(gone);
}

}  // namespace
}  // namespace deja
