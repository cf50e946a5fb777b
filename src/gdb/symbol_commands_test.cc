#include "gdb/symbol_commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace deja {
namespace {

using testing::ElementsAre;

SymbolFile file(const std::string& path, const std::string& build_id, bool fixed, bool symbols = true) {
  SymbolFile f{path, {}};
  f.info.build_id = build_id;
  f.info.fixed_address = fixed;
  f.info.has_symbols = symbols;
  return f;
}

TEST(SymbolCommands, TheKernelIsLoadedWhereItRunsAndKnownToPython) {
  EXPECT_THAT(kernel_symbol_commands("/tmp/k", 0x1e00000),
              ElementsAre("symbol-file \"/tmp/k\" -o 0x1e00000",
                          "python deja_kernel_file, deja_kernel_slide = bytes.fromhex('2f746d702f6b').decode("
                          "errors='surrogateescape'), 0x1e00000"));
}

TEST(SymbolCommands, APathIsOneWordWhateverIsInIt) {
  const std::vector<std::string> commands = kernel_symbol_commands("/a b/\"c\\'d", 0);
  EXPECT_EQ(commands[0], R"(symbol-file "/a b/\"c\\'d" -o 0x0)");
  EXPECT_EQ(commands[1].find("c\\'d"), std::string::npos) << "Python reads it in hexadecimal";
}

TEST(SymbolCommands, FilesOfOneBuildIdBelongTogether) {
  EXPECT_THAT(
      file_symbol_commands({file("/lib/a.so", "ab12", false), file("/bin/fixed", "cd34", true),
                            file("/debug/a.so", "ab12", false), file("/bin/stripped", "ef56", true, false)}),
      ElementsAre("add-symbol-file \"/bin/fixed\" -o 0",
                  "python deja_symbol_files = {'ab12': [\"/lib/a.so\", \"/debug/a.so\", ], "
                  "'ef56': [\"/bin/stripped\", ], }"));
}

TEST(SymbolCommands, WhatHasNoBuildIdCannotBeLookedFor) {
  EXPECT_THAT(file_symbol_commands({file("/lib/a.so", "", false)}),
              ElementsAre("python deja_symbol_files = {}"));
}

}  // namespace
}  // namespace deja
