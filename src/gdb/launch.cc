#include "gdb/launch.h"

#include <fcntl.h>
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

#include "base/host_limits.h"
#include "base/printable.h"
#include "gdb/fd_connection.h"
#include "gdb/symbol_commands.h"
#include "sandbox/outside_file.h"
#include "sandbox/sandbox.h"

extern "C" {
extern const char deja_gdb_commands[], deja_gdb_commands_end[];
}

namespace deja {
namespace {

Status write_file(const std::filesystem::path& path, std::string_view text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  if (!out) return make_error("cannot write {}: {}", path.string(), host_error(errno));
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
    return make_error("{}: {}", path.string(), host_error(errno));
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
  ~IgnoreInterrupts() {
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

Result<std::unique_ptr<GdbProcess>> GdbProcess::prepare(const std::string& program,
                                                        const std::vector<std::string>& arguments) {
  std::unique_ptr<GdbProcess> gdb(new GdbProcess);
  std::error_code error;
  std::string name = (std::filesystem::temp_directory_path(error) / "deja-gdb-XXXXXX").string();
  if (error || !mkdtemp(name.data()))
    return make_error("cannot make a directory for gdb's socket, {}: {}", name, host_error(errno));
  gdb->directory_ = name;
  DEJA_TRY(prepare_outside_file(name));
  sandbox::allow_write(name);
  DEJA_ASSIGN(gdb->listener_, listen_at(gdb->directory_ / "gdb"));
  std::vector<std::string> words{program, "-q", "-x", (gdb->directory_ / "setup.gdb").string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC)) return make_error("cannot start {}: {}", program, host_error(errno));
  std::fflush(nullptr);
  gdb->child_ = fork();
  if (gdb->child_ == 0) {
    close(ends[1]);
    char byte;
    if (read(ends[0], &byte, 1) != 1) _exit(0);
    signal(SIGXFSZ, SIG_DFL);  // use_host_limits() is for this program
    execvp(argv[0], argv.data());
    std::fputs(
        show("deja: cannot start {}: {} (Debian's package gdb has it)\n", program, host_error(errno)).c_str(),
        stderr);
    _exit(127);
  }
  close(ends[0]);
  gdb->go_ahead_ = ends[1];
  if (gdb->child_ < 0) return make_error("cannot start {}: {}", program, host_error(errno));
  return gdb;
}

GdbProcess::~GdbProcess() {
  if (go_ahead_ >= 0) close(go_ahead_);
  if (listener_ >= 0) close(listener_);
  if (child_ > 0) waitpid(child_, nullptr, 0);
  std::error_code error;
  std::filesystem::remove_all(directory_, error);
  if (error) remove_outside_file(directory_);
}

Result<int> GdbProcess::run(DebugTarget& target, const GdbLaunch& launch) {
  DEJA_TRY(write_file(directory_ / "deja.py", gdb_commands()));
  // A reverse-continue may take long, but while it runs gdb waits without a limit; the limit is for the rest.
  std::string setup = "set remotetimeout 60\nset breakpoint always-inserted on\nset confirm off\n";
  if (!launch.kernel_elf.empty()) {
    const std::filesystem::path kernel = directory_ / "kernel";
    DEJA_TRY(write_file(kernel,
                        {reinterpret_cast<const char*>(launch.kernel_elf.data()), launch.kernel_elf.size()}));
    for (const std::string& line : kernel_symbol_commands(kernel, launch.kernel_slide)) setup += line + "\n";
  }
  for (const std::string& line : launch.setup) setup += line + "\n";
  setup += "source " + (directory_ / "deja.py").string() + "\ntarget extended-remote " +
           (directory_ / "gdb").string() + "\nset breakpoint condition-evaluation target\nset confirm on\n";
  DEJA_TRY(write_file(directory_ / "setup.gdb", setup));

  const IgnoreInterrupts ignore;
  const char byte = 0;
  if (write(go_ahead_, &byte, 1) != 1) return make_error("cannot start gdb: {}", host_error(errno));
  // gdb connects, or ends without: then nobody ever will. And it may connect again after a `disconnect`.
  int status = 0;
  bool running = true;
  while (running) {
    timeval wait{0, 200'000};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(listener_, &set);
    if (select(listener_ + 1, &set, nullptr, nullptr, &wait) > 0) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd >= 0) {
        FdConnection connection(fd);
        GdbServer(target, connection, [](std::string_view text) {
          std::fputs(show("deja: {}\n", text).c_str(), stderr);
        }).serve();
      }
    }
    running = waitpid(child_, &status, WNOHANG) == 0;
  }
  child_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace deja
