// The door to the host with real pipes, terminals (openpty) and sockets.
#include "inputs/host_inputs.h"
#include "inputs/scripted_inputs_for_test.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "inputs/output_stream.h"
#include "inputs/unix_socket.h"

namespace deja {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr u64 kMs = 1'000'000;
const std::vector<std::size_t> kRoom = {100'000, 100'000};

class HostInputsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "deja-inputs-XXXXXX").string();
    dir_ = ::mkdtemp(name.data());
    ASSERT_EQ(::pipe2(in_, O_CLOEXEC), 0);
    ASSERT_EQ(::pipe2(out_, O_CLOEXEC), 0);
  }
  void TearDown() override {
    hub_.reset();
    for (const int fd : {in_[0], in_[1], out_[0], out_[1]}) ::close(fd);
    std::filesystem::remove_all(dir_);
  }

  void open(std::vector<SerialConfig> serial, std::optional<std::string> monitor = {}) {
    auto r = HostInputs::create({.serial = std::move(serial),
                                 .monitor_socket = std::move(monitor),
                                 .catch_signals = true,
                                 .stdin_fd = in_[0],
                                 .stdout_fd = out_[1]},
                                clock_);
    ASSERT_TRUE(r.ok()) << r.error().message;
    hub_ = std::move(r).value();
  }
  void open_stdio(std::optional<std::string> monitor = {}) {
    open({{SerialConfig::Kind::stdio}}, std::move(monitor));
  }
  std::string path(const char* name) const { return (dir_ / name).string(); }

  void send(std::string_view bytes) {
    ASSERT_EQ(::write(in_[1], bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  // Polls until nothing more comes.
  std::vector<HostInput> all(InputRoom room = kRoom) {
    std::vector<HostInput> got;
    for (int quiet = 0; quiet < 3;) {
      auto some = hub_->poll(room);
      if (some.empty()) ++quiet;
      got.insert(got.end(), some.begin(), some.end());
      hub_->wait_until(clock_.monotonic_ns() + 2 * kMs, room);
    }
    return got;
  }
  // Returns what came out; waits a moment for it.
  static std::string read_some(int fd) {
    PollSet set;
    set.add(fd, POLLIN);
    set.wait(500 * kMs);
    char buffer[200'000];
    const ssize_t n = set.readable(fd) ? ::read(fd, buffer, sizeof buffer) : 0;
    return std::string(buffer, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  }

  RealHostClock clock_;
  std::filesystem::path dir_;
  int in_[2], out_[2];
  std::unique_ptr<HostInputs> hub_;
};

TEST_F(HostInputsTest, BytesFromAPipe) {
  open_stdio();
  EXPECT_THAT(all(), ElementsAre());
  send(std::string("ls\n\0\xff", 5));
  EXPECT_THAT(all(), ElementsAre(HostInput(input::SerialBytes{0, std::string("ls\n\0\xff", 5)})));
}

TEST_F(HostInputsTest, EscapeKeys) {
  open_stdio();
  send("a\001\001b\001zc\001bd\001");
  EXPECT_THAT(all(), ElementsAre(HostInput(input::SerialBytes{0, "a\001bc"}),
                                 HostInput(input::SerialBreak{0}), HostInput(input::SerialBytes{0, "d"})));
  send("x");
  EXPECT_THAT(all(), ElementsAre(HostInput(input::Quit{false, "Ctrl-A x"})));
  send("\001h");
  (void)all();
  EXPECT_THAT(read_some(out_[0]), HasSubstr("Ctrl-A x"));
}

TEST_F(HostInputsTest, MonitorBehindCtrlAC) {
  open_stdio();
  hub_->set_monitor_actions({[] { return std::string("step 42"); }, {}, {}, {}});
  send("one\001cstatus\nnmi\n\001ctwo");
  EXPECT_THAT(all(), ElementsAre(HostInput(input::SerialBytes{0, "onetwo"}), HostInput(input::NmiButton{})));
  EXPECT_THAT(read_some(out_[0]), HasSubstr("step 42\nok\n"));
}

TEST_F(HostInputsTest, OnlyAsMuchAsThereIsRoomFor) {
  open_stdio();
  send("abcdef\001bgh");
  EXPECT_THAT(all(std::vector<std::size_t>{0}), ElementsAre());
  EXPECT_THAT(hub_->poll(std::vector<std::size_t>{4}), ElementsAre(HostInput(input::SerialBytes{0, "abcd"})));
  EXPECT_FALSE(hub_->wait_until(clock_.monotonic_ns() + 5 * kMs, std::vector<std::size_t>{0}))
      << "bytes without room do not end a sleep";
  EXPECT_TRUE(hub_->wait_until(clock_.monotonic_ns() + 5'000 * kMs, std::vector<std::size_t>{1}));
  EXPECT_THAT(hub_->poll(std::vector<std::size_t>{3}),
              ElementsAre(HostInput(input::SerialBytes{0, "ef"}), HostInput(input::SerialBreak{0})));
  EXPECT_THAT(all(), ElementsAre(HostInput(input::SerialBytes{0, "gh"})));
}

// A long paste through a pipe is held back, and arrives whole.
TEST_F(HostInputsTest, BackPressure) {
  open_stdio();
  ASSERT_EQ(::fcntl(in_[1], F_SETFL, O_NONBLOCK), 0);
  std::string sent, got;
  for (int round = 0; round < 3000; ++round) {
    const std::string piece(1000, static_cast<char>('a' + round % 26));
    const ssize_t n = sent.size() < 500'000 ? ::write(in_[1], piece.data(), piece.size()) : 0;
    if (n > 0) sent += piece.substr(0, static_cast<std::size_t>(n));
    const std::vector<std::size_t> room = {static_cast<std::size_t>(round < 500 ? 0 : 300)};
    for (const auto& in : hub_->poll(room)) got += std::get<input::SerialBytes>(in).bytes;
    if (round == 499) {
      EXPECT_LT(sent.size(), 300'000u) << "the sender must be blocked by now";
    }
  }
  for (const auto& in : all()) got += std::get<input::SerialBytes>(in).bytes;
  EXPECT_EQ(got, sent);
}

TEST_F(HostInputsTest, EndOfInputIsNotTheEnd) {
  open_stdio();
  send("bye");
  ::close(in_[1]);
  in_[1] = -1;
  EXPECT_THAT(all(), ElementsAre(HostInput(input::SerialBytes{0, "bye"})));
  EXPECT_FALSE(hub_->wait_until(clock_.monotonic_ns() + 5 * kMs, kRoom));
}

TEST_F(HostInputsTest, DevNullFileAndClosedInput) {
  std::ofstream(path("keys")) << "from a file";
  for (const std::string& name : {std::string("/dev/null"), path("keys"), std::string()}) {
    ::close(in_[0]);
    in_[0] = name.empty() ? 987 : ::open(name.c_str(), O_RDONLY);
    open_stdio();
    std::string got;
    for (const auto& in : all()) got += std::get<input::SerialBytes>(in).bytes;
    EXPECT_EQ(got, name == path("keys") ? "from a file" : "");
    EXPECT_FALSE(hub_->wait_until(clock_.monotonic_ns() + 5 * kMs, kRoom)) << name;
    hub_.reset();
  }
}

TEST_F(HostInputsTest, InputEndsASleepAtOnce) {
  open_stdio();
  const pid_t child = ::fork();
  if (child == 0) {
    ::usleep(30'000);
    ::_exit(::write(in_[1], "k", 1) == 1 ? 0 : 1);
  }
  const u64 start = clock_.monotonic_ns();
  bool woken = false;
  while (!woken && clock_.monotonic_ns() < start + 5'000 * kMs)
    woken = hub_->wait_until(start + 5'000 * kMs, kRoom) && !hub_->poll(kRoom).empty();
  EXPECT_TRUE(woken);
  EXPECT_LT(clock_.monotonic_ns() - start, 2'000 * kMs);
  ::waitpid(child, nullptr, 0);
}

TEST_F(HostInputsTest, ABlockedReaderBacklogsAndNothingIsLost) {
  open_stdio();
  std::string sent, got;
  for (int i = 0; !hub_->backlogged(); ++i) {
    const std::string piece = fmt::format("line {}\n", i);
    hub_->write(0, piece);
    sent += piece;
    (void)hub_->poll(kRoom);
    ASSERT_LT(sent.size(), 10'000'000u);
  }
  EXPECT_TRUE(hub_->drain(20 * kMs).ok());
  EXPECT_TRUE(hub_->backlogged());
  // The flag is ours alone: the shell's side of the pipe stays blocking.
  EXPECT_EQ(::fcntl(out_[1], F_GETFL) & O_NONBLOCK, 0);
  while (hub_->backlogged()) {
    got += read_some(out_[0]);
    hub_->wait_until(clock_.monotonic_ns() + 100 * kMs, {});
  }
  while (got.size() < sent.size()) {
    got += read_some(out_[0]);
    EXPECT_TRUE(hub_->drain(kMs).ok());
  }
  EXPECT_EQ(got, sent);
}

TEST_F(HostInputsTest, AClosedPipeIsReportedOnce) {
  open_stdio();
  ::close(out_[0]);
  out_[0] = -1;
  hub_->write(0, "hello");
  (void)hub_->poll(kRoom);
  EXPECT_TRUE(hub_->backlogged());
  EXPECT_THAT(hub_->drain(kMs).error().message,
              HasSubstr("serial port 0: standard output: cannot write: Broken pipe"));
  EXPECT_FALSE(hub_->backlogged());
  hub_->write(0, "more");
  EXPECT_TRUE(hub_->drain(kMs).ok());
}

TEST_F(HostInputsTest, AFullDiskKeepsTheOutput) {
  open({{SerialConfig::Kind::file, "/dev/full"}});
  hub_->write(0, "hello");
  for (int i = 0; i < 3; ++i) EXPECT_THAT(hub_->drain(kMs).error().message, HasSubstr("No space left"));
}

TEST_F(HostInputsTest, SerialToFiles) {
  open({{SerialConfig::Kind::file, path("one")},
        {SerialConfig::Kind::none},
        {SerialConfig::Kind::file, path("three")}});
  hub_->write(0, "first");
  hub_->write(1, "lost");
  hub_->write(2, "third");
  hub_->write(7, "no such port");
  EXPECT_TRUE(hub_->drain(kMs).ok());
  std::string text;
  std::getline(std::ifstream(path("one")), text);
  EXPECT_EQ(text, "first");
  std::getline(std::ifstream(path("three")), text);
  EXPECT_EQ(text, "third");
}

TEST_F(HostInputsTest, OpenErrorsNameTheFile) {
  const auto error = [&](std::vector<SerialConfig> serial, std::optional<std::string> monitor = {}) {
    auto r = HostInputs::create({.serial = std::move(serial), .monitor_socket = std::move(monitor)}, clock_);
    return r.ok() ? std::string() : r.error().message;
  };
  EXPECT_THAT(error({{SerialConfig::Kind::file, "/nonexistent/x"}}), HasSubstr("/nonexistent/x"));
  EXPECT_THAT(error({{SerialConfig::Kind::unix_socket, "/nonexistent/x"}}), HasSubstr("/nonexistent/x"));
  EXPECT_THAT(error({{SerialConfig::Kind::stdio}, {SerialConfig::Kind::stdio}}), HasSubstr("only one"));
  std::ofstream(path("file")) << "precious";
  EXPECT_THAT(error({}, path("file")), HasSubstr("is not a socket"));
  auto other = ListeningSocket::create(path("used"));
  EXPECT_THAT(error({}, path("used")), HasSubstr("another program listens"));
}

TEST_F(HostInputsTest, SerialOnAUnixSocket) {
  open({{SerialConfig::Kind::unix_socket, path("s")}});
  hub_->write(0, "nobody hears this");
  for (int client = 0; client < 3; ++client) {
    const int fd = connect_unix(path("s")).value();
    const int second = connect_unix(path("s")).value();
    ASSERT_EQ(::write(fd, "in", 2), 2);
    EXPECT_THAT(all(), ElementsAre(HostInput(input::SerialBytes{0, "in"})));
    hub_->write(0, "out");
    (void)hub_->poll(kRoom);
    EXPECT_EQ(read_some(fd), "out");
    // The second one is served when the first has gone.
    ASSERT_EQ(::write(second, "2", 1), 1);
    EXPECT_THAT(all(), ElementsAre());
    ::close(fd);
    EXPECT_THAT(all(), ElementsAre(HostInput(input::SerialBytes{0, "2"})));
    ::close(second);
    (void)all();
    hub_->write(0, "gone");
    EXPECT_TRUE(hub_->drain(kMs).ok());
  }
  hub_.reset();
  EXPECT_FALSE(std::filesystem::exists(path("s")));
}

TEST_F(HostInputsTest, MonitorSocketAtALongPath) {
  const std::string deep = path("d") + std::string(120, 'x');
  std::filesystem::create_directory(deep);
  const std::string socket = deep + "/monitor.sock";
  open({}, socket);
  struct stat st {};
  ASSERT_EQ(::stat(socket.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
  hub_->set_monitor_actions({[] { return std::string("fine"); }, {}, {}, {}});
  const int a = connect_unix(socket).value();
  const int b = connect_unix(socket).value();
  ASSERT_EQ(::write(a, "status\npause\nresume", 19), 19);
  ASSERT_EQ(::write(b, "mark hi\n", 8), 8);
  ::shutdown(a, SHUT_WR);
  EXPECT_THAT(all(), testing::UnorderedElementsAre(HostInput(input::Pause{}), HostInput(input::Resume{}),
                                                   HostInput(input::Mark{"hi"})));
  EXPECT_EQ(read_some(a), "fine\nok\nok\n");
  EXPECT_EQ(read_some(b), "ok\n");
  ::close(a);
  ::close(b);
  hub_.reset();
  EXPECT_FALSE(std::filesystem::exists(socket));
}

TEST_F(HostInputsTest, HostileMonitorClients) {
  open({}, path("m"));
  std::vector<int> fds;
  for (int i = 0; i < 20; ++i) {
    fds.push_back(connect_unix(path("m")).value());
    ::fcntl(fds.back(), F_SETFL, O_NONBLOCK);
    (void)hub_->poll({});
    if (i == 7) break;
  }
  std::string garbage;
  u64 x = 99;
  for (int i = 0; i < 100'000; ++i) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    garbage += static_cast<char>(x >> 30);
  }
  for (int round = 0; round < 200; ++round) {
    for (const int fd : fds) (void)!::send(fd, garbage.data() + round * 100, 5000, MSG_NOSIGNAL);
    (void)hub_->poll({});
  }
  for (const int fd : fds) ::close(fd);
  (void)all();
  const int fd = connect_unix(path("m")).value();
  ASSERT_EQ(::write(fd, "nmi\n", 4), 4);
  const auto inputs = all();
  EXPECT_THAT(inputs, testing::Contains(HostInput(input::NmiButton{})));
  ::close(fd);
}

TEST_F(HostInputsTest, SignalsBecomeQuit) {
  open_stdio();
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    ::kill(::getpid(), signal);
    EXPECT_TRUE(hub_->wait_until(clock_.monotonic_ns() + 1000 * kMs, kRoom));
    const auto got = hub_->poll(kRoom);
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(std::get<input::Quit>(got[0]).reason, fmt::format("SIG{}", ::sigabbrev_np(signal)));
    EXPECT_TRUE(std::get<input::Quit>(got[0]).by_signal);
  }
}

// A terminal: raw while the object lives, restored by its end, by the crash hook, by exit().
class TerminalTest : public HostInputsTest {
 protected:
  void SetUp() override {
    HostInputsTest::SetUp();
    ASSERT_EQ(::openpty(&master_, &slave_, nullptr, nullptr, nullptr), 0);
    for (const int fd : {in_[0], out_[1]}) ::close(fd);
    in_[0] = slave_;
    out_[1] = ::dup(slave_);
    before_ = flags();
  }
  void TearDown() override {
    HostInputsTest::TearDown();
    ::close(master_);
  }
  tcflag_t flags() const {
    termios t{};
    EXPECT_EQ(::tcgetattr(slave_, &t), 0);
    return t.c_lflag;
  }
  bool raw() const { return (flags() & (ICANON | ECHO | ISIG)) == 0; }

  int master_ = -1, slave_ = -1;
  tcflag_t before_ = 0;
};

TEST_F(TerminalTest, RawAndBack) {
  EXPECT_FALSE(raw());
  open_stdio();
  EXPECT_TRUE(raw());
  ASSERT_EQ(::write(master_, "\003\032x\r", 4), 4);
  EXPECT_THAT(all(), ElementsAre(HostInput(input::SerialBytes{0, "\003\032x\r"})))
      << "Ctrl-C and Ctrl-Z are the guest's";
  hub_->notify("note");
  EXPECT_THAT(read_some(master_), HasSubstr("deja: note\r\n"));
  hub_.reset();
  EXPECT_EQ(flags(), before_);
}

TEST_F(TerminalTest, MonitorEchoes) {
  open_stdio();
  ASSERT_EQ(::write(master_, "\001cnmi\r", 6), 6);
  EXPECT_THAT(all(), ElementsAre(HostInput(input::NmiButton{})));
  EXPECT_THAT(read_some(master_), HasSubstr("(deja) nmi\r\nok\r\n(deja) "));
}

TEST_F(TerminalTest, RestoredHoweverTheProcessEnds) {
  for (const int way : {0, 1, 2}) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      ::dup2(::open("/dev/null", O_WRONLY), 2);
      open_stdio();
      if (!raw()) ::_exit(99);
      if (way == 0) std::exit(7);
      if (way == 1) DEJA_CHECK(false, "a crash");
      hub_.reset();
      ::_exit(7);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_EQ(way == 1 ? WTERMSIG(status) : WEXITSTATUS(status), way == 1 ? SIGABRT : 7);
    EXPECT_EQ(flags(), before_) << way;
  }
}

TEST_F(TerminalTest, StoppedAndContinued) {
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    open_stdio();
    while (true) {
      for (const auto& in : hub_->poll(kRoom))
        if (std::holds_alternative<input::Quit>(in)) {
          hub_.reset();
          ::_exit(7);
        }
      hub_->wait_until(clock_.monotonic_ns() + 10 * kMs, kRoom);
    }
  }
  const auto eventually = [&](bool want) {
    for (int i = 0; i < 500 && raw() != want; ++i) ::usleep(10'000);
    return raw() == want;
  };
  EXPECT_TRUE(eventually(true));
  ::kill(child, SIGTSTP);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, WUNTRACED), child);
  EXPECT_TRUE(WIFSTOPPED(status));
  EXPECT_EQ(flags(), before_);
  ::kill(child, SIGCONT);
  EXPECT_TRUE(eventually(true));
  ::kill(child, SIGTERM);
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_EQ(flags(), before_);
}

// Nobody reads the terminal (Ctrl-S, a stuck ssh): output backs up, and nothing blocks.
TEST_F(TerminalTest, BlockedTerminalDoesNotBlock) {
  open_stdio();
  const u64 start = clock_.monotonic_ns();
  for (int i = 0; i < 200'000 && !hub_->backlogged(); ++i) hub_->write(0, "some output of a guest\n");
  EXPECT_TRUE(hub_->backlogged());
  ASSERT_EQ(::write(master_, "\001x", 2), 2);
  EXPECT_THAT(all(), ElementsAre(HostInput(input::Quit{false, "Ctrl-A x"})));
  hub_.reset();
  EXPECT_LT(clock_.monotonic_ns() - start, 5'000 * kMs);
}

TEST(ScriptedInputs, TimesAndRoom) {
  FakeHostClock clock;
  ScriptedInputs s(clock);
  s.add(10, input::SerialBytes{0, "abc"});
  s.add(10, input::Pause{});
  s.add(20, input::SerialBytes{0, "d"});
  const std::vector<std::size_t> two = {2}, none = {0};
  EXPECT_THAT(s.poll(two), ElementsAre());
  EXPECT_FALSE(s.wait_until(5, two));
  EXPECT_EQ(clock.now_ns, 5u);
  EXPECT_TRUE(s.wait_until(kNeverNs, two));
  EXPECT_EQ(clock.now_ns, 10u);
  EXPECT_THAT(s.poll(two), ElementsAre(HostInput(input::SerialBytes{0, "ab"}), HostInput(input::Pause{})));
  EXPECT_FALSE(s.wait_until(100, none));
  EXPECT_EQ(clock.now_ns, 100u);
  EXPECT_THAT(s.poll(two),
              ElementsAre(HostInput(input::SerialBytes{0, "c"}), HostInput(input::SerialBytes{0, "d"})));
  EXPECT_FALSE(s.wait_until(kNeverNs, two));
}

TEST(HostClock, WallSecondsRoundDown) {
  FakeHostClock clock;
  clock.wall_base_ns = -1;
  EXPECT_EQ(clock.wall_unix_seconds(), -1);
  clock.wall_base_ns = 1'999'999'999;
  EXPECT_EQ(clock.wall_unix_seconds(), 1);
}

}  // namespace
}  // namespace deja
