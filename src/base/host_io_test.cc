#include "base/host_io.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <thread>

namespace deja {
namespace {

TEST(HostIo, ADescriptorIsClosedOnceByItsLastOwner) {
  int raw = -1;
  {
    Fd a(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    raw = a.fd;
    Fd b(std::move(a));
    EXPECT_EQ(a.fd, -1);
    EXPECT_EQ(b.fd, raw);
    EXPECT_EQ(::fcntl(raw, F_GETFD), FD_CLOEXEC);
  }
  EXPECT_EQ(::fcntl(raw, F_GETFD), -1);
  Fd kept(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int released = kept.release();
  kept = Fd();
  EXPECT_EQ(::close(released), 0);
}

TEST(HostIo, WritesInPiecesAreOneWrite) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const std::string all(1'000'000, 'x');  // more than a pipe holds
  std::string got;
  std::thread reader([&] {
    char buffer[4096];
    for (ssize_t n; (n = ::read(ends[0], buffer, sizeof buffer)) > 0;)
      got.append(buffer, static_cast<std::size_t>(n));
  });
  EXPECT_EQ(write_all(ends[1], all), 0);
  ::close(ends[1]);
  reader.join();
  ::close(ends[0]);
  EXPECT_EQ(got, all);
  const Fd full(::open("/dev/full", O_WRONLY | O_CLOEXEC));
  EXPECT_EQ(write_all(full.fd, "x"), ENOSPC);
  EXPECT_EQ(write_all(full.fd, ""), 0);
}

TEST(HostIo, ReadsEndWithTheFile) {
  char name[] = "/tmp/host_io_test_XXXXXX";
  const Fd file(::mkstemp(name));
  ::unlink(name);
  ASSERT_EQ(write_all(file.fd, "0123456789"), 0);
  std::string out = "old";
  EXPECT_EQ(read_at(file.fd, 3, 4, &out), 0);
  EXPECT_EQ(out, "3456");
  EXPECT_EQ(read_at(file.fd, 8, 100, &out), 0);
  EXPECT_EQ(out, "89");
  EXPECT_EQ(read_at(file.fd, 10, 1, &out), 0);
  EXPECT_EQ(out, "");
  EXPECT_EQ(read_at(-1, 0, 1, &out), EBADF);
  EXPECT_EQ(out, "");
}

}  // namespace
}  // namespace deja
