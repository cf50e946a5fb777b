// What a manifest lets a confined replay read: the recording, and nothing that it merely names.
#include "replay/replay_access.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "replay/session_for_test.h"
#include "sandbox/file_access.h"
#include "sandbox/sandbox.h"

namespace deja {
namespace {

namespace fs = std::filesystem;

class ReplayAccessTest : public SessionTest {
 protected:
  void SetUp() override {
    ::setenv("XDG_CACHE_HOME", (temp_.path / "cache").c_str(), 1);
    type(303, "x"), type(500, "q");
  }
  // Makes the manifest of `dir` say something else.
  static RecordingManifest change(const fs::path& dir, const std::function<void(RecordingManifest&)>& how) {
    RecordingManifest manifest = std::move(Recording::open(dir)).value().manifest;
    how(manifest);
    spew(dir / kManifestFile, to_json(manifest));
    return manifest;
  }
  // In a process that replays `dir`, confined: was the replay opened, and does `attempt` succeed then?
  struct Outcome {
    bool opened = false, done = false;
    bool operator==(const Outcome&) const = default;
  };
  static Outcome confined(const fs::path& dir, const std::function<bool()>& attempt) {
    const pid_t child = ::fork();
    if (child == 0) {
      sandbox::set_mode(landlock_version().ok() ? SandboxMode::strict : SandboxMode::on);
      const bool opened = Replayer::open(dir, {}).ok();
      ::_exit((opened ? 1 : 0) | (sandbox::enter() && attempt() ? 2 : 0));
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status)) << status;
    return {(WEXITSTATUS(status) & 1) != 0, (WEXITSTATUS(status) & 2) != 0};
  }
  static bool opens(const fs::path& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd >= 0) ::close(fd);
    return fd >= 0;
  }
  // Does this process have it open? The sandbox lets nobody read names in /proc.
  static bool holds(const struct stat& file) {
    constexpr int kMostDescriptors = 1024;
    for (int fd = 0; fd < kMostDescriptors; ++fd) {
      struct stat st {};
      if (::fstat(fd, &st) == 0 && st.st_dev == file.st_dev && st.st_ino == file.st_ino) return true;
    }
    return false;
  }
  // A file of the user's, as large as what was recorded, which nothing of the recording's is.
  struct stat make_secret(const fs::path& path, u64 size) {
    spew(path, std::string(size, 's'));
    struct stat st {};
    EXPECT_EQ(::stat(path.c_str(), &st), 0);
    return st;
  }
};

constexpr bool kYes = true, kNo = false;

TEST_F(ReplayAccessTest, APathInAManifestOpensNothing) {
  if (!landlock_version().ok()) GTEST_SKIP() << "this kernel has no Landlock";
  const fs::path dir = record(), secret = temp_.path / "secret";
  const struct stat file = make_secret(secret, Recording::open(dir).value().manifest.inputs[0].size);
  EXPECT_EQ(confined(dir, [&] { return opens(dir / "events.log"); }), (Outcome{kYes, kYes}));
  for (const fs::path& path : {fs::path("/"), temp_.path, secret}) {
    SCOPED_TRACE(path);
    const auto reads_secret = [&] { return holds(file) || opens(secret) || opens("/etc/passwd"); };
    // With a copy in the recording the path is only information.
    change(dir, [&](RecordingManifest& m) { m.inputs[0].original_path = path; });
    EXPECT_EQ(confined(dir, reads_secret), (Outcome{kYes, kNo}));
    // Without one it has to be the file that was recorded.
    const auto before = change(dir, [&](RecordingManifest& m) { m.inputs[0].stored.clear(); });
    EXPECT_EQ(confined(dir, reads_secret), (Outcome{kNo, kNo}));
    // And where no role of the machine is filled by it.
    change(dir, [&](RecordingManifest& m) {
      m.inputs[0].stored = "sha256-" + m.inputs[0].sha256;
      m.inputs[0].original_path = "/boot/kernel";
      RecordedFile more = before.inputs[0];
      more.role = "notes";
      m.inputs.push_back(more);
      more.role = "drive0", more.identity = "1-2-3-4", more.sha256.clear();
      m.inputs.push_back(more);
    });
    EXPECT_EQ(confined(dir, reads_secret), (Outcome{kYes, kNo}));
    change(dir, [](RecordingManifest& m) { m.inputs.resize(1); });
  }
}

// Whatever its role, what is not in the recording is looked at as a whole before the machine has it.
TEST_F(ReplayAccessTest, ADriveIsWhatWasRecorded) {
  const fs::path dir = record(), secret = temp_.path / "secret";
  const struct stat file = make_secret(secret, 64_KiB);
  for (const char* identity : {"1-2-3-65536", ""}) {  // the last one is not even read
    SCOPED_TRACE(identity);
    change(dir, [&](RecordingManifest& m) {
      m.machine.drives = {{"raw", true, ""}};
      m.inputs.resize(1);
      m.inputs.push_back({"drive0", secret, std::string(64, '0'), 64_KiB, "", identity});
    });
    EXPECT_EQ(confined(dir, [&] { return holds(file); }), (Outcome{kNo, kNo}));
  }
}

// What is outside is opened once, and can be replayed as often as one likes; its name opens it no more.
TEST_F(ReplayAccessTest, FilesOutsideAreHandedOverOpen) {
  const fs::path dir = record(), kernel = files_.kernel.path;
  fs::remove_all(dir / kInputsDir);
  change(dir, [&](RecordingManifest& m) { m.inputs[0].stored.clear(); });
  const auto again = [&] { return Replayer::open(dir, {}).ok(); };
  EXPECT_EQ(confined(dir, again), (Outcome{kYes, kYes}));
  if (landlock_version().ok()) {
    EXPECT_EQ(confined(dir, [&] { return opens(kernel); }), (Outcome{kYes, kNo}));
  }
  std::string other = slurp(kernel);
  other.back() = static_cast<char>(other.back() ^ 1);
  spew(kernel, other);
  EXPECT_EQ(confined(dir, again), (Outcome{kNo, kNo}));
  fs::remove(kernel);
  EXPECT_EQ(confined(dir, again), (Outcome{kNo, kNo}));
}

}  // namespace
}  // namespace deja
