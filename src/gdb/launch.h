// Starting gdb on a recording.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gdb/target.h"

namespace deja {

// The Python that defines deja's commands in gdb.
std::string_view gdb_commands();

struct GdbLaunch {
  std::vector<u8> kernel_elf;  // symbols to begin with, if any, moved by kernel_slide
  u64 kernel_slide = 0;
  std::vector<std::string> setup;  // gdb commands, before it connects
};

// gdb in the foreground. Its process is made before the sandbox is entered, which lets nobody start others,
// and becomes gdb when it is known what to tell it.
class GdbProcess {
 public:
  // `arguments`: the user's.
  static Result<std::unique_ptr<GdbProcess>> prepare(const std::string& program,
                                                     const std::vector<std::string>& arguments);
  // A gdb that was not run never starts.
  ~GdbProcess();
  GdbProcess(const GdbProcess&) = delete;

  // Serves `target` to gdb until that ends. Gives its exit status.
  Result<int> run(DebugTarget& target, const GdbLaunch& launch);

 private:
  GdbProcess() = default;

  std::filesystem::path directory_;  // private; what gdb reads, and the socket
  int listener_ = -1;
  int go_ahead_ = -1;  // a byte to it starts gdb
  pid_t child_ = -1;
};

}  // namespace deja
