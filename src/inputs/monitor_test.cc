// Monitor commands, and what hostile clients send.
#include "inputs/monitor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "inputs/serial_config.h"

namespace deja {
namespace {

using testing::HasSubstr;

MonitorAnswer run(std::string_view line) {
  MonitorActions actions;
  actions.status = [] { return std::string("all is well"); };
  actions.start_recording = [](const std::string& name) -> Result<std::string> {
    if (name == "taken") return make_error("there is one");
    return "into [" + name + "]";
  };
  actions.stop_recording = [] { return Result<std::string>("done"); };
  actions.screendump = [](const std::string& file) { return Result<std::string>("into " + file); };
  return run_monitor_command(line, actions);
}

TEST(MonitorCommand, Inputs) {
  const auto one = [](std::string_view line) {
    const MonitorAnswer a = run(line);
    EXPECT_EQ(a.text, "ok\n") << line;
    EXPECT_EQ(a.inputs.size(), 1u) << line;
    return a.inputs.empty() ? HostInput(input::Quit{}) : a.inputs[0];
  };
  for (const char* s : {"pause", "stop", "  pause\t\r"}) EXPECT_EQ(one(s), HostInput(input::Pause{}));
  for (const char* s : {"resume", "cont", "c"}) EXPECT_EQ(one(s), HostInput(input::Resume{}));
  for (const char* s : {"power", "system_powerdown"}) EXPECT_EQ(one(s), HostInput(input::PowerButton{}));
  for (const char* s : {"reset", "system_reset"}) EXPECT_EQ(one(s), HostInput(input::ResetButton{}));
  for (const char* s : {"quit", "q"}) EXPECT_EQ(one(s), HostInput(input::Quit{false, "monitor"}));
  EXPECT_EQ(one("nmi"), HostInput(input::NmiButton{}));
  EXPECT_EQ(one("break"), HostInput(input::SerialBreak{0}));
  EXPECT_EQ(one("break 1"), HostInput(input::SerialBreak{1}));
  EXPECT_EQ(one("mark  two  words "), HostInput(input::Mark{"two  words"}));
  const MonitorAnswer sysrq = run("sysrq h");
  EXPECT_EQ(sysrq.inputs, (std::vector<HostInput>{input::SerialBreak{0}, input::SerialBytes{0, "h"}}));
}

TEST(MonitorCommand, TextAndErrors) {
  EXPECT_EQ(run("status").text, "all is well\n");
  EXPECT_EQ(run("info status").text, "all is well\n");
  EXPECT_THAT(run("help").text, HasSubstr("system_powerdown"));
  EXPECT_EQ(run("").text, "");
  EXPECT_EQ(run("record start").text, "into []\n");
  EXPECT_EQ(run("record  start  boot ").text, "into [boot]\n");
  EXPECT_EQ(run("record start taken").text, "error: there is one\n");
  EXPECT_EQ(run("record stop").text, "done\n");
  EXPECT_EQ(run("screendump /tmp/a b.png").text, "into /tmp/a b.png\n");
  EXPECT_THAT(run("fly").text, HasSubstr("unknown command 'fly'"));
  EXPECT_THAT(run("fly\x1b[2J").text, HasSubstr(R"('fly\x1b[2J')"));
  for (const char* bad : {"pause now", "mark", "break x", "break 10", "sysrq", "sysrq hh", "record",
                          "record now", "record stop x", "screendump"}) {
    EXPECT_THAT(run(bad).text, HasSubstr("error: ")) << bad;
    EXPECT_TRUE(run(bad).inputs.empty()) << bad;
  }
}

TEST(MonitorCommand, ArbitraryBytes) {
  u64 x = 1234567;
  for (int i = 0; i < 20'000; ++i) {
    std::string line;
    for (int j = 0; j < i % 50; ++j) {
      x ^= x << 13, x ^= x >> 7, x ^= x << 17;
      line += static_cast<char>(x >> 20);
    }
    (void)run(line);
  }
}

class Session : public testing::Test {
 protected:
  Session() { EXPECT_EQ(::pipe(pipe_), 0); }
  ~Session() override {
    ::close(pipe_[0]);
    ::close(pipe_[1]);
  }
  std::string printed(OutputStream& out) {
    out.push();
    char buffer[65536];
    const ssize_t n = out.buffered() == 0 ? ::read(pipe_[0], buffer, sizeof buffer) : 0;
    return std::string(buffer, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  }
  int pipe_[2];
};

// Answers show the state that earlier commands led to: one state-changing command a round.
TEST_F(Session, OneCommandARound) {
  OutputStream out(pipe_[1], false, "test");
  MonitorSession session(out, false);
  std::string state = "running";
  MonitorActions actions;
  actions.status = [&] { return state; };
  session.feed("status\npause\nstatus\nresume\nsta");
  std::vector<HostInput> inputs;
  session.run(actions, inputs);
  EXPECT_EQ(inputs, (std::vector<HostInput>{input::Pause{}}));
  EXPECT_TRUE(session.has_line());
  state = "paused";
  session.run(actions, inputs);
  EXPECT_EQ(inputs, (std::vector<HostInput>{input::Pause{}, input::Resume{}}));
  state = "running again";
  session.feed("tus");
  session.end();
  session.run(actions, inputs);
  EXPECT_EQ(printed(out), "running\nok\npaused\nok\nrunning again\n");
}

TEST_F(Session, LongLinesAreRefusedAndTheNextOneWorks) {
  OutputStream out(pipe_[1], false, "test");
  MonitorSession session(out, false);
  session.feed(std::string(1'000'000, 'x'));
  session.feed("\nnmi\n");
  std::vector<HostInput> inputs;
  session.run({}, inputs);
  EXPECT_EQ(inputs, (std::vector<HostInput>{input::NmiButton{}}));
  EXPECT_THAT(printed(out), HasSubstr("1024 bytes"));
}

TEST_F(Session, EditingKeys) {
  OutputStream out(pipe_[1], false, "test");
  MonitorSession session(out, true);
  session.feed("\x7fpowerr\x7f\r");
  session.feed("garbage\x15nmi\r");
  std::vector<HostInput> inputs;
  session.run({}, inputs);
  session.run({}, inputs);
  EXPECT_EQ(inputs, (std::vector<HostInput>{input::PowerButton{}, input::NmiButton{}}));
}

TEST(SerialConfig, Spellings) {
  using K = SerialConfig::Kind;
  const auto ok = [](std::string_view s) {
    auto r = parse_serial(s);
    EXPECT_TRUE(r.ok()) << s << ": " << (r.ok() ? "" : r.error().message);
    return r.ok() ? r.value() : SerialConfig{};
  };
  EXPECT_EQ(ok("stdio"), (SerialConfig{K::stdio}));
  EXPECT_EQ(ok("mon:stdio"), (SerialConfig{K::stdio}));
  EXPECT_EQ(ok("none"), (SerialConfig{K::none}));
  EXPECT_EQ(ok("null"), (SerialConfig{K::none}));
  EXPECT_EQ(ok("file:/a,b"), (SerialConfig{K::file, "/a,b"}));
  EXPECT_EQ(ok("unix:/s"), (SerialConfig{K::unix_socket, "/s", false}));
  EXPECT_EQ(ok("unix:/s,server"), (SerialConfig{K::unix_socket, "/s", true}));
  EXPECT_EQ(ok("unix:/s,server,nowait"), (SerialConfig{K::unix_socket, "/s", false}));
  EXPECT_EQ(ok("unix:/s,server=on,wait=off"), (SerialConfig{K::unix_socket, "/s", false}));
  for (const char* s : {"stdio", "none", "file:x", "unix:/s", "unix:/s,server"})
    EXPECT_EQ(to_string(ok(s)), s);
  for (const char* bad : {"", "file:", "unix:", "unix:,server", "tcp:1:2", "unix:/s,telnet",
                          "unix:/s,server=off", "unix:/s,wait=maybe", "unix:/s,"}) {
    EXPECT_THAT(parse_serial(bad).error().message, HasSubstr("serial '")) << bad;
  }
}

}  // namespace
}  // namespace deja
