// Takes from a process what it does not need any more before it runs a guest, so that a guest that took over
// the engine could do no more with the host than the engine: docs/security.md. What this is about is the
// process, not an object, so there is one of it.
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

// To be called before anything is opened. Descriptors that whoever started the process has left open, but for
// 0 to 2, are none of a guest's business: enter() closes them. Not before that, since files can be named by
// them, as `--initrd <(…)` does in a shell.
void note_inherited_descriptors();

void set_mode(SandboxMode mode);
bool enabled();
// Has enter() been here?
bool entered();

// What the process will still need, to be said before it enters. Files, or directories with all below them.
void allow_read(const std::filesystem::path& path);
void allow_write(const std::filesystem::path& path);
// May `path` be written and removed after all that was said so far?
bool may_write(const std::filesystem::path& path);

// An error: this is strict, and the host cannot do all of it. enter() says that too; this is for what comes
// before.
Status check_host();

// To be called before the first instruction of a guest, while there is one thread; later calls do nothing.
Status enter();

// For a process that helps this one: HelperProcess::confine.
Status enter_helper(Confined what, const FileAccess& files);

}  // namespace sandbox

}  // namespace deja
