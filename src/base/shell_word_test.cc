#include "base/shell_word.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdio>

namespace deja {
namespace {

TEST(ShellWord, IsQuotedWhereItHasToBe) {
  EXPECT_EQ(shell_word("/tmp/a-b_c.1,d=e"), "/tmp/a-b_c.1,d=e");
  EXPECT_EQ(shell_word(""), "''");
  EXPECT_EQ(shell_word("a b"), "'a b'");
  EXPECT_EQ(shell_word("~x"), "'~x'");
  EXPECT_EQ(shell_word("it's"), "'it'\\''s'");
}

TEST(ShellWord, IsWhatAShellMakesOfIt) {
  for (const std::string text :
       {"a b", "$(id)", "`id`", "it's", "\"", "\\", "a\nb", "*", "~", "#x", "a;b", "é"}) {
    std::FILE* const shell = ::popen(("printf %s " + shell_word(text)).c_str(), "r");
    ASSERT_TRUE(shell);
    std::array<char, 64> out{};
    const std::size_t n = std::fread(out.data(), 1, out.size(), shell);
    EXPECT_EQ(std::string(out.data(), n), text);
    EXPECT_EQ(::pclose(shell), 0);
  }
}

}  // namespace
}  // namespace deja
