// Tries to break out of the sandbox. Each attempt is made by a process of its own, after it has entered.
#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <thread>

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
    if (landlock_version() == 0) GTEST_SKIP() << "this kernel has no Landlock";
    std::string name = (fs::temp_directory_path() / "deja-sandbox-XXXXXX").string();
    dir_ = ::mkdtemp(name.data());
    fs::create_directories(dir_ / "readable");
    fs::create_directories(dir_ / "writable");
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
    const int memory = ::memfd_create("code", MFD_CLOEXEC);
    if (::ftruncate(memory, 4096)) return false;
    auto* const write =
        static_cast<unsigned char*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0));
    void* const code = ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, memory, 0);
    if (write == MAP_FAILED || code == MAP_FAILED) return false;
    write[0] = 0xc3;  // ret
    reinterpret_cast<void (*)()>(code)();
    std::signal(SIGUSR1, SIG_IGN);
    return std::raise(SIGUSR1) == 0;
  }));
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
