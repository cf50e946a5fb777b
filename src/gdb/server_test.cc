// The protocol against a target that only notes what is asked of it.
#include "gdb/server.h"

#include <gtest/gtest.h>

#include <deque>
#include <random>

namespace deja {
namespace {

class FakeTarget final : public DebugTarget {
 public:
  FakeTarget() {
    for (unsigned i = 0; i < 2; ++i) {
      states[i].index = i;
      states[i].gpr[RAX] = 0x1111 * (i + 1);
      states[i].efer = eferbit::LMA;
      states[i].seg[CS].attr = 0x2000;
      states[i].rip = 0x4000 + i;
    }
    for (std::size_t i = 0; i < sizeof memory; ++i) memory[i] = static_cast<u8>(i);
  }
  unsigned vcpu_count() override { return 2; }
  unsigned current_vcpu() override { return 1; }
  GdbCpu cpu(unsigned vcpu) override { return {states[vcpu], 3, 77}; }
  std::string describe_vcpu(unsigned vcpu) override { return vcpu ? "halted" : "CPL 0"; }
  std::size_t read_memory(unsigned vcpu, bool physical, u64 address, void* out, std::size_t size) override {
    const u64 base = physical ? 0 : 0x10000;
    if (address < base || address >= base + sizeof memory) return 0;
    const std::size_t n = std::min<std::size_t>(size, base + sizeof memory - address);
    std::memcpy(out, memory + (address - base), n);
    return n;
  }
  Result<GdbStop> resume(const GdbResume& request) override {
    last = request;
    if (fails) return make_error("diverged");
    if (until_interrupted) {
      while (!request.interrupted()) continue;
      next.why = GdbStop::Why::interrupted;
    }
    return next;
  }
  Result<GdbOsTable> os_table(std::string_view kind) override {
    if (kind != "processes") return make_error("no Linux");
    return GdbOsTable{{"pid", "command"}, {{"1", "init"}, {"2", "<a&\"b\x01\xff>"}}};
  }
  Status restart() override {
    ++restarts;
    if (fails) return make_error("diverged");
    return {};
  }
  Result<std::string> command(const std::string& text, unsigned, const std::function<bool()>&) override {
    if (text == "bad") return make_error("no such command");
    return "you said " + text + "\n";
  }

  CpuState states[2];
  u8 memory[4096];
  GdbResume last;
  GdbStop next;
  bool fails = false, until_interrupted = false;
  int restarts = 0;
};

class FakeConnection final : public GdbConnection {
 public:
  // While the target runs gdb sends nothing but Ctrl-C.
  bool receive(std::string* bytes, bool wait) override {
    if (!wait && !incoming.empty() && incoming.front().starts_with('$')) return true;
    if (incoming.empty()) return !wait && !gone;
    *bytes += incoming.front();
    incoming.pop_front();
    return true;
  }
  bool send(std::string_view bytes) override {
    sent += bytes;
    return true;
  }
  std::deque<std::string> incoming;
  bool gone = false;
  std::string sent;
};

class GdbServerTest : public testing::Test {
 protected:
  // The last packet that comes back for these.
  std::string ask(std::initializer_list<std::string> packets) {
    FakeConnection connection;
    connection.incoming.push_back("+" + gdb_packet("QStartNoAckMode"));
    for (const std::string& p : packets) connection.incoming.push_back(gdb_packet(p));
    replies_.clear();
    GdbServer(target_, connection, [this](std::string_view text) { explained_ += text; }).serve();
    GdbPacketReader reader;
    reader.feed(connection.sent);
    while (!reader.empty()) replies_.push_back(reader.next().payload);
    return replies_.back();
  }
  std::string ask(const std::string& packet) { return ask({packet}); }

  FakeTarget target_;
  std::vector<std::string> replies_;
  std::string explained_;
};

TEST_F(GdbServerTest, OffersReverseExecutionAndConditions) {
  const std::string features = ask("qSupported:swbreak+;hwbreak+;vContSupported+");
  for (const char* f : {"ReverseStep+", "ReverseContinue+", "ConditionalBreakpoints+", "qXfer:features:read+",
                        "QStartNoAckMode+", "swbreak+"})
    EXPECT_NE(features.find(f), std::string::npos) << f;
  EXPECT_EQ(ask("vMustReplyEmpty"), "");
  EXPECT_EQ(ask("vCont?"), "vCont;c;C;s;S;r");
}

TEST_F(GdbServerTest, ThreadsAreVcpus) {
  EXPECT_EQ(ask("?"), "T05thread:2;");
  EXPECT_EQ(ask("qfThreadInfo"), "m1,2");
  EXPECT_EQ(ask("qsThreadInfo"), "l");
  EXPECT_EQ(ask({"Hg1", "qC"}), "QC1");
  EXPECT_EQ(ask("Hg3"), "E01");
  EXPECT_EQ(ask("T2"), "OK");
  EXPECT_EQ(ask("T3"), "E01");
  EXPECT_EQ(ask("qThreadExtraInfo,2"), to_hex("halted"));
  EXPECT_NE(ask("qXfer:threads:read::0,1000").find("name=\"vCPU 1\""), std::string::npos);
}

TEST_F(GdbServerTest, RegistersAreOfTheSelectedThread) {
  EXPECT_EQ(ask({"Hg1", "p0"}), "1111000000000000");
  EXPECT_EQ(ask({"Hg2", "p0"}), "2222000000000000");
  EXPECT_EQ(ask({"Hg2", "p10"}), "0140000000000000");
  EXPECT_TRUE(ask({"Hg1", "g"}).starts_with("1111000000000000"));
  EXPECT_EQ(replies_.back().size(), 2 * gdb_registers(target_.cpu(0)).size());
  EXPECT_EQ(ask("pffff"), "E01");
}

TEST_F(GdbServerTest, TheDescriptionComesInPieces) {
  std::string xml;
  for (std::size_t at = 0;; at = xml.size()) {
    const std::string piece = ask(fmt::format("qXfer:features:read:target.xml:{:x},100", at));
    ASSERT_TRUE(piece[0] == 'm' || piece[0] == 'l');
    xml += piece.substr(1);
    if (piece[0] == 'l') break;
  }
  EXPECT_EQ(xml, gdb_target_xml());
  EXPECT_EQ(ask("qXfer:features:read:other.xml:0,100"), "E00");
  EXPECT_EQ(ask("qXfer:features:read:target.xml:ffffffffffff,1"), "l");
}

TEST_F(GdbServerTest, TablesOfTheGuestsSystem) {
  EXPECT_NE(ask("qXfer:osdata:read::0,1000").find("<column name=\"Type\">threads</column>"),
            std::string::npos);
  const std::string xml = ask("qXfer:osdata:read:processes:0,1000");
  EXPECT_EQ(xml[0], 'l');
  EXPECT_NE(xml.find("<osdata type=\"processes\">"), std::string::npos);
  EXPECT_NE(xml.find("<column name=\"pid\">1</column><column name=\"command\">init</column>"),
            std::string::npos);
  EXPECT_NE(xml.find("&lt;a&amp;&quot;b\\x01\\xff&gt;"), std::string::npos);  // a name is no markup
  EXPECT_EQ(ask("qXfer:osdata:read:processes:4,3"), "m" + xml.substr(5, 3));
  EXPECT_EQ(ask("qXfer:osdata:read:files:0,1000"), "E00");
  EXPECT_EQ(explained_, "no Linux");
  EXPECT_EQ(ask("qXfer:osdata:read:processes"), "E00");
}

TEST_F(GdbServerTest, MemoryEndsWhereItEnds) {
  EXPECT_EQ(ask("m10001,3"), "010203");
  EXPECT_EQ(ask("m10ffe,8"), "feff");
  EXPECT_EQ(ask("m11000,1"), "E14");
  EXPECT_EQ(ask("m10000,ffffffffffffffff").size(), 2 * 4096u);
  EXPECT_EQ(ask({"Qqemu.PhyMemMode:1", "m1,2"}), "0102");
  EXPECT_EQ(ask({"Qqemu.PhyMemMode:1", "qqemu.PhyMemMode"}), "1");
}

TEST_F(GdbServerTest, SearchFindsAcrossWindows) {
  EXPECT_EQ(ask(std::string("qSearch:memory:10000;1000;") + "\x10\x11\x12"), "1,10010");
  EXPECT_EQ(ask("qSearch:memory:10000;1000;zzzz"), "0");
  EXPECT_EQ(ask("qSearch:memory:5;1000;zzzz"), "E14");
}

TEST_F(GdbServerTest, ChecksumIsThatOfCompareSections) {
  std::memcpy(target_.memory, "123456789", 9);
  EXPECT_EQ(ask("qCRC:10000,9"), "C376e6e7");  // CRC-32/MPEG-2
}

TEST_F(GdbServerTest, WritesAreRefusedAndExplained) {
  EXPECT_TRUE(ask("P0=1").starts_with("E."));
  EXPECT_TRUE(ask("M10000,1:00").starts_with("E."));
  EXPECT_TRUE(ask("X10000,0:").starts_with("E."));
  EXPECT_TRUE(ask("c4000").starts_with("E."));
  EXPECT_NE(explained_.find("read-only"), std::string::npos);
}

TEST_F(GdbServerTest, PointsOfAllKindsReachTheTarget) {
  EXPECT_EQ(ask({"Z0,1000,1", "Z1,2000,1", "Z2,3000,8", "Z3,4000,4", "Z4,5000,1", "Z2,3000,8", "z4,5000,1",
                 "vCont;c"}),
            "T05thread:1;");
  ASSERT_EQ(target_.last.breakpoints.size(), 2u);
  EXPECT_FALSE(target_.last.breakpoints[0].hardware);
  EXPECT_TRUE(target_.last.breakpoints[1].hardware);
  ASSERT_EQ(target_.last.watchpoints.size(), 2u);
  EXPECT_EQ(ask("Z2,3000,0"), "E01");
  EXPECT_EQ(ask("Z2,ffffffffffffffff,2"), "E01");
  EXPECT_EQ(ask("Z5,3000,1"), "");
}

TEST_F(GdbServerTest, ConditionsReachTheTarget) {
  ask({"Z0,1000,1;X3,220127X2,2701", "vCont;c"});
  ASSERT_EQ(target_.last.breakpoints.size(), 1u);
  EXPECT_EQ(target_.last.breakpoints[0].conditions,
            (std::vector<std::string>{std::string("\x22\x01\x27"), std::string("\x27\x01")}));
  for (const char* bad :
       {"Z0,1000,1;X3,22", "Z0,1000,1;Xffffffffffffffff,22", "Z0,1000,1;Y", "Z0,1000,1;X1,zz"})
    EXPECT_EQ(ask(bad), "E01") << bad;
}

TEST_F(GdbServerTest, ResumesAsAsked) {
  ask("vCont;s:2;c");
  EXPECT_EQ(target_.last.how, GdbResume::How::step);
  EXPECT_EQ(target_.last.vcpu, 1u);
  ask("vCont;r4000,4010:1;c:-1");
  EXPECT_EQ(target_.last.how, GdbResume::How::range);
  EXPECT_EQ(target_.last.from, 0x4000u);
  EXPECT_EQ(target_.last.to, 0x4010u);
  ask({"Hc1", "bs"});
  EXPECT_TRUE(target_.last.backward && target_.last.how == GdbResume::How::step && target_.last.vcpu == 0);
  ask("bc");
  EXPECT_TRUE(target_.last.backward && target_.last.how == GdbResume::How::go);
  ask("C05");
  EXPECT_FALSE(target_.last.backward);
  for (const char* bad : {"vCont;x", "vCont;s:9", "vCont;r40"}) EXPECT_EQ(ask(bad), "E01") << bad;
}

TEST_F(GdbServerTest, StopsSayWhy) {
  using Why = GdbStop::Why;
  target_.next = {Why::breakpoint, 1, false, {}};
  EXPECT_EQ(ask("c"), "T05thread:2;swbreak:;");
  target_.next.hardware = true;
  EXPECT_EQ(ask("c"), "T05thread:2;hwbreak:;");
  target_.next = {Why::watchpoint, 0, false, {GdbWatchpoint::Kind::access, 0xabc0, 8, false}, 0xabc4};
  EXPECT_EQ(ask("c"), "T05thread:1;awatch:abc4;");
  target_.next = {Why::history_begins, 0, false, {}};
  EXPECT_EQ(ask("bc"), "T05thread:1;replaylog:begin;");
  target_.next.why = Why::history_ends;
  EXPECT_EQ(ask("c"), "T05thread:1;replaylog:end;");
  target_.fails = true;
  EXPECT_EQ(ask("c"), "T02thread:2;");
  EXPECT_EQ(replies_[replies_.size() - 2], "O" + to_hex("deja: diverged\n"));
}

TEST_F(GdbServerTest, CtrlCStopsALongRun) {
  target_.until_interrupted = true;
  FakeConnection connection;
  connection.incoming = {"+" + gdb_packet("QStartNoAckMode") + gdb_packet("bc"), "", "", "\x03",
                         gdb_packet("?")};
  GdbServer(target_, connection, [](std::string_view) {}).serve();
  EXPECT_NE(connection.sent.find(gdb_packet("T02thread:1;")), std::string::npos);
}

TEST_F(GdbServerTest, GdbThatIsGoneStopsALongRun) {
  target_.until_interrupted = true;
  FakeConnection connection;
  connection.incoming = {gdb_packet("bc")};
  connection.gone = true;
  GdbServer(target_, connection, [](std::string_view) {}).serve();  // comes back
}

TEST_F(GdbServerTest, MonitorCommandsAnswerOnTheConsole) {
  EXPECT_EQ(ask("qRcmd," + to_hex("when")), "OK");
  EXPECT_EQ(replies_[replies_.size() - 2], "O" + to_hex("you said when\n"));
  EXPECT_EQ(ask("qRcmd," + to_hex("bad")), "OK");
  EXPECT_EQ(replies_[replies_.size() - 2], "O" + to_hex("no such command\n"));
  EXPECT_EQ(ask("qRcmd,zz"), "E01");
}

TEST_F(GdbServerTest, RunsAgainFromTheBeginning) {
  // Breakpoints from before are gdb's to set again.
  EXPECT_EQ(ask({"!", "Z0,1000,1", "Z2,3000,8", "vKill;1", "?", "qfThreadInfo", "T1", "vRun;", "Z0,2000,1",
                 "vCont;c"}),
            "T05thread:1;");
  const std::vector<std::string> after_kill(replies_.end() - 7, replies_.end() - 1);
  EXPECT_EQ(after_kill, (std::vector<std::string>{"OK", "W00", "l", "E01", "T05thread:2;", "OK"}));
  EXPECT_EQ(target_.restarts, 1);
  ASSERT_EQ(target_.last.breakpoints.size(), 1u);
  EXPECT_EQ(target_.last.breakpoints[0].pc, 0x2000u);
  EXPECT_TRUE(target_.last.watchpoints.empty());
  EXPECT_EQ(ask({"!", "R00", "?"}), "T05thread:2;");
  EXPECT_EQ(target_.restarts, 2);
  target_.fails = true;
  EXPECT_EQ(ask({"!", "vRun;"}), "E01");
  EXPECT_EQ(explained_, "diverged");
}

TEST_F(GdbServerTest, EndsWithItsInferiorUnlessExtended) {
  for (const char* end : {"k", "D", "vKill;1"}) {
    EXPECT_NE(ask({end, "qC"}), "QC2") << end;
    EXPECT_EQ(ask({"!", end, "qC"}), "QC2") << end;
  }
}

TEST_F(GdbServerTest, AcknowledgesUntilToldNotTo) {
  FakeConnection connection;
  connection.incoming = {gdb_packet("qC"), "-", "$qC#00", "+" + gdb_packet("QStartNoAckMode"),
                         gdb_packet("qC")};
  GdbServer(target_, connection, [](std::string_view) {}).serve();
  EXPECT_EQ(connection.sent, "+$QC2#c6$QC2#c6-+$OK#9a$QC2#c6");
}

TEST_F(GdbServerTest, AnyPacketIsSafe) {
  std::mt19937_64 random(5);
  const std::vector<std::string> starts{"Z0,",
                                        "Z2,",
                                        "z3,",
                                        "m",
                                        "p",
                                        "vCont;",
                                        "qXfer:features:read:target.xml:",
                                        "qSearch:memory:",
                                        "qCRC:",
                                        "Hg",
                                        "Hc",
                                        "qRcmd,",
                                        "X",
                                        "T",
                                        "bs",
                                        "b",
                                        "vRun;",
                                        "R",
                                        "qXfer:osdata:read:"};
  constexpr std::string_view kAlphabet = "0123456789abcdef,;:-XscrZ\x80";
  for (int round = 0; round < 3000; ++round) {
    std::string packet = starts[random() % starts.size()];
    for (u64 n = random() % 24; n > 0; --n) packet.push_back(kAlphabet[random() % kAlphabet.size()]);
    EXPECT_FALSE(ask({packet, "qC"}).empty()) << packet;
  }
}

}  // namespace
}  // namespace deja
