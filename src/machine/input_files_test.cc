#include "machine/input_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

namespace deja {
namespace {

using testing::HasSubstr;

class InputFiles : public testing::Test {
 protected:
  InputFiles() : path_(testing::TempDir() + fmt::format("deja_input_{}", getpid())) {}
  ~InputFiles() override { std::remove(path_.c_str()); }
  void write(const std::string& content) { std::ofstream(path_, std::ios::binary) << content; }
  std::string path_;
};

TEST_F(InputFiles, ReadsAndHashes) {
  write("abc");
  auto file = read_input_file("kernel", path_, 3);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->path, path_);
  EXPECT_EQ(file->bytes, (std::vector<u8>{'a', 'b', 'c'}));
  EXPECT_EQ(file->sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST_F(InputFiles, Empty) {
  write("");
  auto file = read_input_file("initrd", path_, 100);
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(file->bytes.empty());
  EXPECT_EQ(file->sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST_F(InputFiles, Pipe) {
  int fds[2];
  ASSERT_EQ(pipe(fds), 0);
  ASSERT_EQ(::write(fds[1], "hello", 5), 5);
  close(fds[1]);
  auto file = read_input_file("initrd", fmt::format("/dev/fd/{}", fds[0]), 100);
  close(fds[0]);
  ASSERT_TRUE(file.ok()) << file.error().message;
  EXPECT_EQ(file->bytes.size(), 5u);
}

TEST_F(InputFiles, Errors) {
  EXPECT_EQ(read_input_file("kernel", path_, 100).error().message,
            fmt::format("cannot open kernel '{}': No such file or directory", path_));
  EXPECT_THAT(read_input_file("kernel", testing::TempDir(), 100).error().message,
              HasSubstr("is a directory"));
  write("abcd");
  EXPECT_THAT(read_input_file("initrd", path_, 3).error().message, HasSubstr("too large: more than 3 bytes"));
}

}  // namespace
}  // namespace deja
