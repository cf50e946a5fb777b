// Starting gdb on a recording.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "gdb/target.h"

namespace deja {

// The Python that defines deja's commands in gdb.
std::string_view gdb_commands();

struct GdbLaunch {
  std::string program = "gdb";
  std::vector<u8> kernel_elf;  // symbols to begin with, if any, moved by kernel_slide
  u64 kernel_slide = 0;
  std::vector<std::string> setup;      // gdb commands, before it connects
  std::vector<std::string> arguments;  // the user's
};

// Runs gdb in the foreground, serving `target` to it until it ends. Gives its exit status.
Result<int> run_gdb(DebugTarget& target, const GdbLaunch& launch);

}  // namespace deja
