// Takes from a process the rights that it no longer needs before it runs a guest, so that a guest that took
// over the engine could do no more with the host than the engine: docs/security.md. The sandbox is one of the
// process, so these are functions and not an object.
//
// Off unless the command line turns it on. While it is off nothing here does anything.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.h"
#include "sandbox/file_access.h"
#include "sandbox/system_calls.h"

namespace deja {

enum class SandboxMode {
  off,
  on,      // as far as the host can; what it cannot is said once
  strict,  // an error when the host cannot do all of it
};

namespace sandbox {

// Must be called before anything is opened. A guest has no business with descriptors above 2 that were open
// when the process started: enter() closes them. They stay open until then, since files can be named by them,
// as `--initrd <(…)` does in a shell.
void note_inherited_descriptors();

void set_mode(SandboxMode mode);
bool enabled();
// Whether enter() has been called.
bool entered();

// Files that the process will still need, or directories with all below them; said before it enters.
void allow_read(const std::filesystem::path& path);
void allow_write(const std::filesystem::path& path);
// Whether `path` may be written and removed after all that was said so far.
bool may_write(const std::filesystem::path& path);

// An error when the mode is strict and the host cannot do all of it. enter() returns it too; this is for code
// that runs before.
Status check_host();

// Must be called before the first instruction of a guest, while there is one thread; later calls do nothing.
Status enter();

// Confines a helper process; called by HelperProcess::confine.
Status enter_helper(Confined what, const FileAccess& files);

}  // namespace sandbox

}  // namespace deja
