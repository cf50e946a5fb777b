// Images through the process that reads them: the same bytes, errors as they are, and what its death means.
#include "disk/image_process.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <random>

namespace deja {
namespace {

using testing::HasSubstr;

class ImageProcessTest : public testing::Test {
 protected:
  ImageProcessTest()
      : path_(std::filesystem::temp_directory_path() /
              ("deja_image_process_test." + std::to_string(::getpid()))) {}
  ~ImageProcessTest() override { std::filesystem::remove(path_); }

  // A raw image of `size` bytes of noise, which are in content_.
  std::shared_ptr<RemoteImage> open(std::size_t size) {
    std::mt19937 random(1);
    content_.resize(size);
    for (u8& byte : content_) byte = static_cast<u8>(random());
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(content_.data()), static_cast<std::streamsize>(size));
    auto image = RemoteImage::open(HostFile::open(path_.string()).value(), "raw");
    EXPECT_TRUE(image) << image.error().message;
    return image ? *image : nullptr;
  }
  void expect_bytes(RemoteImage& image, u64 offset, u64 size) {
    std::vector<u8> got(size, 0xee), want(size, 0);
    for (u64 i = 0; i < size && offset + i < content_.size(); ++i) want[i] = content_[offset + i];
    const Status status = image.read(offset, got);
    ASSERT_TRUE(status.ok()) << status.error().message;
    EXPECT_EQ(got, want) << size << " bytes at " << offset;
  }

  std::filesystem::path path_;
  std::vector<u8> content_;
};

TEST_F(ImageProcessTest, GivesTheBytesOfTheImage) {
  const auto image = open(3'000'000);  // more than is kept of what was read
  EXPECT_EQ(image->size(), 3'000'000u);
  std::mt19937 random(2);
  for (int i = 0; i < 200; ++i) expect_bytes(*image, random() % 3'000'000, 1 + random() % 150'000);
  expect_bytes(*image, 2'999'999, 2);  // behind the end there are zeros
  expect_bytes(*image, 5'000'000, 10);
}

TEST_F(ImageProcessTest, KeepsSeveralImagesApart) {
  const auto first = open(100'000);
  const std::vector<u8> first_content = content_;
  std::filesystem::remove(path_);  // it is read by its descriptor
  auto second = open(4096);
  expect_bytes(*second, 0, 4096);
  second.reset();
  content_ = first_content;
  expect_bytes(*first, 70'000, 30'000);
}

TEST_F(ImageProcessTest, HandsErrorsOn) {
  const auto image = open(4096);
  const auto refused = RemoteImage::open(HostFile::open(path_.string()).value(), "qcow2");
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, HasSubstr(path_.string()));
  EXPECT_THAT(refused.error().message, HasSubstr("qcow2"));
  const auto boot = image->find_boot();
  ASSERT_FALSE(boot) << "noise is no file system";
  expect_bytes(*image, 0, 4096);
}

// The last one: there is one such process, and it is gone afterwards.
TEST_F(ImageProcessTest, ItsDeathIsAnErrorThatNamesTheImage) {
  const auto image = open(1'000'000);
  expect_bytes(*image, 0, 100);
  pid_t child = 0;
  std::ifstream("/proc/self/task/" + std::to_string(::getpid()) + "/children") >> child;
  ASSERT_GT(child, 0);
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  siginfo_t info;
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  std::vector<u8> bytes(100);
  const Status status = image->read(900'000, bytes);
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().message, HasSubstr(path_.string()));
  EXPECT_THAT(status.error().message, HasSubstr("has ended"));
}

}  // namespace
}  // namespace deja
