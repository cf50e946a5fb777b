// What the verbs say to the user, in one form.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/types.h"

namespace deja {

// "deja: …" to standard error; returns the exit status for an error.
int fail(const Error& error);
void note(std::string_view text);
// What the verb does concerns the intact part of a damaged recording: if it succeeds, the user is told so at
// its end, and by the exit status.
void note_damage(const std::optional<Error>& damage);
// The exit status of a verb that ended with `status`.
int exit_status(int status);

std::string seconds(u64 ns);  // "4.1 s"
std::string bytes(u64 n);     // "17 bytes", "3.2 KiB"

}  // namespace deja
