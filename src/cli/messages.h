// What the verbs say to the user, in one form.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/printable.h"
#include "base/result.h"
#include "base/types.h"

namespace deja {

// Verbs print in these ways only. Each goes through show(), so that text from recordings, guests and file
// names is shown and never obeyed (base/printable.h); tests/check_banned.py looks for ways round them.
enum class Channel { output, messages };  // standard output and standard error
void put(Channel channel, std::string_view shown);

// To standard output.
template <class... Args>
void say(fmt::format_string<printable_detail::Shown<Args>...> format, const Args&... args) {
  put(Channel::output, show<Args...>(format, args...));
}
// To standard error.
template <class... Args>
void tell(fmt::format_string<printable_detail::Shown<Args>...> format, const Args&... args) {
  put(Channel::messages, show<Args...>(format, args...));
}
// A line "deja: …" to standard error.
template <class... Args>
void note(fmt::format_string<printable_detail::Shown<Args>...> format, const Args&... args) {
  tell("deja: {}\n", Lines{show<Args...>(format, args...)});
}

// Prints the error as a note; returns the exit status for an error.
int fail(const Error& error);
// The verb works on the intact part of a damaged recording: if it succeeds, the user is told so at its end,
// and by the exit status.
void note_damage(const std::optional<Error>& damage);
// The exit status of a verb that ended with `status`.
int exit_status(int status);

std::string seconds(u64 ns);                        // "4.1 s"
std::string bytes(u64 n);                           // "17 bytes", "3.2 KiB"
std::string counted(u64 n, std::string_view what);  // "1 digest", "2,000 digests"

}  // namespace deja
