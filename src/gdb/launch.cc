#include "gdb/launch.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "gdb/fd_connection.h"

extern "C" {
extern const char deja_gdb_commands[], deja_gdb_commands_end[];
}

namespace deja {
namespace {

// Only we may look inside; gone with the object.
class PrivateDirectory {
 public:
  static Result<PrivateDirectory> create() {
    std::error_code error;
    std::string name = (std::filesystem::temp_directory_path(error) / "deja-gdb-XXXXXX").string();
    if (error || !mkdtemp(name.data()))
      return make_error("cannot make a directory for gdb's socket, {}: {}", name, strerror(errno));
    return PrivateDirectory(name);
  }
  PrivateDirectory(PrivateDirectory&& o) noexcept : path_(std::exchange(o.path_, {})) {}
  PrivateDirectory& operator=(PrivateDirectory&&) = delete;
  ~PrivateDirectory() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  explicit PrivateDirectory(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
};

Status write_file(const std::filesystem::path& path, std::string_view text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  if (!out) return make_error("cannot write {}: {}", path.string(), strerror(errno));
  return {};
}

Result<int> listen_at(const std::filesystem::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.string().size() >= sizeof address.sun_path)
    return make_error("{}: too long for a socket; set TMPDIR to a shorter directory", path.string());
  std::memcpy(address.sun_path, path.c_str(), path.string().size());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) || listen(fd, 1))
    return make_error("{}: {}", path.string(), strerror(errno));
  return fd;
}

// gdb owns the terminal: its Ctrl-C is for it, and comes here as a packet.
class IgnoreInterrupts {
 public:
  IgnoreInterrupts() {
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    sigaction(SIGINT, &ignore, &interrupt_);
    sigaction(SIGQUIT, &ignore, &quit_);
  }
  ~IgnoreInterrupts() { restore(); }
  void restore() const {
    sigaction(SIGINT, &interrupt_, nullptr);
    sigaction(SIGQUIT, &quit_, nullptr);
  }

 private:
  struct sigaction interrupt_ {
  }, quit_{};
};

}  // namespace

std::string_view gdb_commands() {
  return {deja_gdb_commands, static_cast<std::size_t>(deja_gdb_commands_end - deja_gdb_commands)};
}

Result<int> run_gdb(DebugTarget& target, const GdbLaunch& launch) {
  DEJA_ASSIGN(const PrivateDirectory dir, PrivateDirectory::create());
  const std::string socket_path = (dir / "gdb").string();
  DEJA_TRY(write_file(dir / "deja.py", gdb_commands()));
  // A reverse-continue may take long, but while it runs gdb waits without a limit; the limit is for the rest.
  std::string setup = "set remotetimeout 60\nset breakpoint always-inserted on\nset confirm off\n";
  if (!launch.kernel_elf.empty()) {
    const std::string kernel = (dir / "kernel").string();
    DEJA_TRY(write_file(kernel,
                        {reinterpret_cast<const char*>(launch.kernel_elf.data()), launch.kernel_elf.size()}));
    setup += fmt::format("symbol-file {} -o {:#x}\n", kernel, launch.kernel_slide);
  }
  for (const std::string& line : launch.setup) setup += line + "\n";
  setup += "source " + (dir / "deja.py").string() + "\ntarget remote " + socket_path +
           "\nset breakpoint condition-evaluation target\nset confirm on\n";
  DEJA_TRY(write_file(dir / "setup.gdb", setup));
  DEJA_ASSIGN(const int listener, listen_at(socket_path));

  std::vector<std::string> words{launch.program, "-q", "-x", (dir / "setup.gdb").string()};
  words.insert(words.end(), launch.arguments.begin(), launch.arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  const IgnoreInterrupts ignore;
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) return make_error("cannot start {}: {}", launch.program, strerror(errno));
  if (child == 0) {
    ignore.restore();
    execvp(argv[0], argv.data());
    std::fputs(fmt::format("deja: cannot start {}: {} (Debian's package gdb has it)\n", launch.program,
                           strerror(errno))
                   .c_str(),
               stderr);
    _exit(127);
  }
  // gdb connects, or ends without: then nobody ever will. And it may connect again after a `disconnect`.
  int status = 0;
  bool running = true;
  while (running) {
    timeval wait{0, 200'000};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(listener, &set);
    if (select(listener + 1, &set, nullptr, nullptr, &wait) > 0) {
      const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd >= 0) {
        FdConnection connection(fd);
        GdbServer(target, connection, [](std::string_view text) {
          std::fputs(fmt::format("deja: {}\n", text).c_str(), stderr);
        }).serve();
      }
    }
    running = waitpid(child, &status, WNOHANG) == 0;
  }
  close(listener);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace deja
