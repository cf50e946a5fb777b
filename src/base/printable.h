// Text that others made, on its way to a terminal: names of files, what stands in recordings, what guests say
// of themselves, what other programs answer. It may hold escape sequences that rewrite what a terminal shows,
// newlines that forge lines of ours, characters that turn the direction of writing, and bytes that are no
// text.
//
// All text for people goes through one of these, so nobody need remember which piece of it was foreign:
// messages of errors (make_error) and of the log (log_info…) are made by show(), and so is what cli/ and gdb/
// print. What is shown already, and is to stay several lines, is a Lines.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace deja {

// One line that any terminal shows as it is. Printable UTF-8 stays. Control characters (C0, DEL, C1), what is
// not UTF-8, line and paragraph separators, marks and overrides of the writing direction, and other
// characters that nobody sees become \n, \r, \t, \x1b or \u202e. Doing it twice does no more than once.
std::string printable(std::string_view text);

// The same, but newlines and tabs stay: only for text whose lines are ours.
std::string printable_lines(std::string_view text);

// Text of several lines that was made by show(), so that each of its newlines is ours.
struct Lines {
  std::string text;
};

namespace printable_detail {

template <class T>
concept Text = std::is_convertible_v<const T&, std::string_view>;

// What takes the place of an argument: of text, what printable() makes of it.
template <class T>
auto shown(const T& x) {
  if constexpr (std::is_same_v<T, char>)
    return printable(std::string_view(&x, 1));
  else if constexpr (Text<T>)
    return printable(x);
  else
    return std::reference_wrapper<const T>(x);
}
inline std::string shown(const Lines& x) { return printable_lines(x.text); }

template <class T>
using Unwrapped = std::unwrap_reference_t<T>;
template <class T>
using Shown = std::remove_cvref_t<Unwrapped<decltype(shown(std::declval<const std::remove_cvref_t<T>&>()))>>;

// A literal, or literals joined by a range, would slip through as a whole.
template <class T>
inline constexpr bool is_join = false;
template <class It, class End>
inline constexpr bool is_join<fmt::join_view<It, End, char>> = Text<decltype(*std::declval<It&>())>;

}  // namespace printable_detail

// fmt::format for people: each argument that is text goes through printable(). The format is ours, newlines
// and all.
template <class... Args>
std::string show(fmt::format_string<printable_detail::Shown<Args>...> format, const Args&... args) {
  static_assert((!printable_detail::is_join<Args> && ...),
                "join what is printable() already, as one argument");
  const fmt::string_view plain = format;
  const auto put = [&](const auto&... shown) {
    return fmt::vformat(
        plain,
        fmt::make_format_args(
            static_cast<const printable_detail::Unwrapped<std::remove_cvref_t<decltype(shown)>>&>(shown)...));
  };
  return put(printable_detail::shown(args)...);
}

}  // namespace deja
