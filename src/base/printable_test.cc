#include "base/printable.h"

#include <gtest/gtest.h>

#include <random>

#include "base/types.h"

namespace deja {
namespace {

TEST(Printable, KeepsTextOfAnyScript) {
  for (const char* text : {"", "plain text, 100% of it \\ \"quoted\"",
                           "Grüße, 漢字, ελληνικά, עברית, 👩‍💻 ÿ"})
    EXPECT_EQ(printable(text), text);
}

TEST(Printable, ShowsWhatATerminalWouldObey) {
  EXPECT_EQ(printable("a\x1b[2Jb"), "a\\x1b[2Jb");
  EXPECT_EQ(printable("one\ndeja: two\r\tthree"), "one\\ndeja: two\\r\\tthree");
  EXPECT_EQ(printable(std::string_view("\0\x07\x7f", 3)), "\\x00\\x07\\x7f");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m\xc2\x85"),
            "\\u009b31m\\u0085")
      << "C1";
  EXPECT_EQ(printable("\u202etxt.exe\u2066\u200f\u061c\u2028\ufeff"),
            "\\u202etxt.exe\\u2066\\u200f\\u061c\\u2028\\ufeff");
  EXPECT_EQ(printable("\U000e0041"), "\\ue0041") << "a tag";
}

TEST(Printable, ShowsTheBytesOfWhatIsNoUtf8) {
  EXPECT_EQ(printable("\x9b\xff\xc3"), "\\x9b\\xff\\xc3");
  EXPECT_EQ(printable("\xc0\x9b"), "\\xc0\\x9b") << "overlong";
  EXPECT_EQ(printable("\xe0\x82\x9b"), "\\xe0\\x82\\x9b") << "overlong";
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80") << "a surrogate";
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80") << "beyond the last";
  EXPECT_EQ(printable("\xe6\xbc"
                      "a"),
            "\\xe6\\xbc"
            "a")
      << "cut";
}

TEST(Printable, IsSafeAndIdempotentForAnyBytes) {
  std::mt19937_64 random(14);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes;
    for (u64 n = random() % 12; n; --n)
      bytes += static_cast<char>(random() % 3 ? random() % 256 : "\x1b\n\xc2\x9b\xe2\x80\xae"[random() % 7]);
    const std::string once = printable(bytes);
    EXPECT_EQ(printable(once), once);
    for (const char c : once) EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
    EXPECT_EQ(once.find("\xc2\x9b"), once.npos);
    EXPECT_EQ(once.find("\xe2\x80\xae"), once.npos);
    EXPECT_EQ(printable_lines(bytes).find('\x1b'), std::string::npos);
  }
}

TEST(Show, PutsEachTextThroughPrintable) {
  const std::string bad = "x\ny";
  const char* pointer = "\x1b";
  EXPECT_EQ(show("{} {} {} {}\n", bad, std::string_view(bad), pointer, '\n'), "x\\ny x\\ny \\x1b \\n\n");
  EXPECT_EQ(show("{:>6}|{:<6}|{:04x}|{:.1f}|{}", bad, "z", 255, 1.5, true), "  x\\ny|z     |00ff|1.5|true");
}

TEST(Show, LeavesTheLinesOfWhatItHasMade) {
  EXPECT_EQ(show("{}end", Lines{show("{}\n{}\n", "a\nb", 1)}), "a\\nb\n1\nend");
  EXPECT_EQ(show("{}", Lines{"no\x1b[m\t\n"}), "no\\x1b[m\t\n") << "but nothing else";
}

}  // namespace
}  // namespace deja
