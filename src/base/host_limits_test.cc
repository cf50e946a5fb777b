#include "base/host_limits.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <functional>

namespace deja {
namespace {

// In a process of its own, which a limit does not outlive.
bool in_child(const std::function<bool()>& test) {
  const pid_t child = ::fork();
  if (child == 0) ::_exit(test() ? 0 : 1);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool limit(__rlimit_resource resource, rlim_t soft, rlim_t hard) {
  const rlimit both{soft, hard};
  return ::setrlimit(resource, &both) == 0;
}

bool says(int error, const std::string& words) { return host_error(error).find(words) != std::string::npos; }

TEST(HostLimits, AnErrorNamesTheLimitBehindIt) {
  EXPECT_TRUE(in_child([] {
    return limit(RLIMIT_NOFILE, 7, 7) && says(EMFILE, "Too many open files") &&
           says(EMFILE, "limited to 7") && says(EMFILE, "ulimit -n");
  }));
  EXPECT_TRUE(in_child([] {
    return limit(RLIMIT_AS, 3u << 29, 3u << 29) && says(ENOMEM, "1536.0 MiB") && says(ENOMEM, "ulimit -v") &&
           !says(ENOMEM, "ulimit -d");
  }));
  EXPECT_TRUE(in_child([] { return limit(RLIMIT_DATA, 1 << 30, 1 << 30) && says(ENOMEM, "ulimit -d"); }));
  EXPECT_TRUE(in_child([] { return limit(RLIMIT_FSIZE, 4096, 4096) && says(EFBIG, "4 KiB"); }));
  EXPECT_TRUE(in_child([] { return limit(RLIMIT_NPROC, 5, 5) && says(EAGAIN, "ulimit -u"); }));
}

TEST(HostLimits, OtherErrorsAreWhatTheyWere) {
  EXPECT_EQ(host_error(EACCES), "Permission denied");
  EXPECT_EQ(host_error(ENOENT), "No such file or directory");
}

TEST(HostLimits, AFileThatMayNotGrowIsAnError) {
  EXPECT_TRUE(in_child([] {
    if (!use_host_limits()) return false;
    const int fd = ::memfd_create("file", 0);
    return limit(RLIMIT_FSIZE, 4096, 4096) && ::ftruncate(fd, 8192) == -1 && errno == EFBIG;
  }));
}

TEST(HostLimits, DescriptorsAreRaisedToWhatIsAllowed) {
  EXPECT_TRUE(in_child([] {
    if (!limit(RLIMIT_NOFILE, 8, 16)) return false;
    if (!use_host_limits()) return false;
    rlimit now{};
    return ::getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur == 16 && now.rlim_max == 16;
  }));
}

TEST(HostLimits, TooLittleStackIsAnError) {
  EXPECT_TRUE(in_child([] {
    if (!limit(RLIMIT_STACK, 65536, 65536)) return false;
    const Status status = use_host_limits();
    return !status && status.error().message.find("ulimit -s") != std::string::npos;
  }));
  EXPECT_TRUE(in_child([] { return limit(RLIMIT_STACK, 65536, 8 << 20) && use_host_limits().ok(); }));
}

// Device 1:3.
bool is_null(int fd) {
  struct stat st {};
  return ::fstat(fd, &st) == 0 && S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3) &&
         ::fcntl(fd, F_GETFD) == 0;
}

TEST(HostLimits, StandardDescriptorsAreNeverAnotherFile) {
  for (unsigned closed = 0; closed < 8; ++closed) {
    EXPECT_TRUE(in_child([closed] {
      const int file = ::memfd_create("file", 0);
      for (int fd = 0; fd < 3; ++fd) {
        ::dup2(file, fd);
        if (closed >> fd & 1) ::close(fd);
      }
      if (!open_standard_descriptors()) return false;
      for (int fd = 0; fd < 3; ++fd)
        if (is_null(fd) != (closed >> fd & 1)) return false;
      return ::open("/dev/null", O_RDWR) > 2;
    })) << closed;
  }
}

TEST(HostLimits, ThatNoStandardDescriptorCanBeOpenedIsAnError) {
  EXPECT_TRUE(in_child([] {
    ::close(2);
    return limit(RLIMIT_NOFILE, 2, 2) && !open_standard_descriptors();
  }));
}

}  // namespace
}  // namespace deja
