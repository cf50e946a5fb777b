// Writer and reader of the event log: round trip, damage, full disks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>

#include <csignal>
#include <cstring>

#include "eventlog/append_file_for_test.h"
#include "eventlog/dump.h"
#include "eventlog/log_reader.h"
#include "eventlog/log_writer.h"
#include "eventlog/temp_dir_for_test.h"

namespace deja {
namespace {

using testing::HasSubstr;

std::vector<LogEvent> one_of_each() {
  return {
      {0, event::WallClock{1'700'000'000'000'000'000}},
      {0, input::SerialBytes{0, std::string("ls\r\0\xff", 5)}},
      {7, input::SerialBytes{3, ""}},
      {7, input::SerialBreak{1}},
      {8, input::PowerButton{}},
      {9, input::NmiButton{}},
      {10, input::ResetButton{}},
      {11, input::Pause{}},
      {11, input::Resume{}},
      {12, input::Mark{"here \"it\" is\n"}},
      {12, input::NetFrame{0, std::string("\0\1 a frame of bytes\xff", 20)}},
      {12, input::Keys{"\x1c\xf0\x1c"}},
      {13, event::WallClock{-5}},
      {5'000'000'000, event::Progress{1'000'000'007}},
      {5'000'000'000, event::Progress{1'000'000'007}},
      {5'000'000'001, event::IdleCut{123'456'789}},
      {~u64{0} - 2, event::Digest{1, ~u64{0}, 0x0123456789abcdef}},
      {~u64{0} - 1, event::End{event::EndReason::debug_exit, 31, "it said so"}},
  };
}

std::unique_ptr<LogWriter> writer_on(FakeDisk& disk, HostClock& clock, LogWriter::Options options = {}) {
  return std::move(LogWriter::create(std::make_unique<FakeAppendFile>(disk), clock, options)).value();
}

// A log with several frames, as bytes.
std::string sample_log() {
  FakeDisk disk;
  FakeHostClock clock;
  auto w = writer_on(disk, clock);
  for (const auto& e : one_of_each()) EXPECT_TRUE(w->append(e).ok());
  EXPECT_TRUE(w->close().ok());
  EXPECT_GE(w->frames_written(), 3u);
  return disk.bytes;
}

struct ReadBack {
  std::vector<LogEvent> events;
  std::string error;  // empty when there was none
  LogReader::Tail tail = LogReader::Tail::open;
};

ReadBack read_all(const std::filesystem::path& path) {
  ReadBack r;
  auto log = LogReader::open(path);
  if (!log) {
    r.error = log.error().message;
    return r;
  }
  while (true) {
    auto e = log->next();
    if (!e) {
      r.error = e.error().message;
      EXPECT_FALSE(log->next().ok()) << "an error stays";
      return r;
    }
    if (!*e) break;
    r.events.push_back(**e);
  }
  r.tail = log->tail();
  return r;
}

bool is_prefix(const std::vector<LogEvent>& part, const std::vector<LogEvent>& whole) {
  return part.size() <= whole.size() && std::equal(part.begin(), part.end(), whole.begin());
}

TEST(EventLog, RoundTripOfEveryKind) {
  TempDir dir;
  spew(dir.path / "log", sample_log());
  const ReadBack r = read_all(dir.path / "log");
  EXPECT_EQ(r.error, "");
  EXPECT_EQ(r.events, one_of_each());
  EXPECT_EQ(r.tail, LogReader::Tail::ended);
  std::vector<bool> seen(kEventKinds);
  for (const auto& e : r.events) seen[e.body.index()] = true;
  EXPECT_EQ(std::count(seen.begin(), seen.end(), false), 0) << "one_of_each() misses a kind";
}

TEST(EventLog, ManyEventsInManyFrames) {
  TempDir dir;
  FakeDisk disk;
  FakeHostClock clock;
  auto w = writer_on(disk, clock, {.frame_bytes = 1000});
  std::vector<LogEvent> events;
  for (u64 i = 0; i < 20'000; ++i)
    events.push_back(
        {i * i, input::SerialBytes{static_cast<u8>(i), std::string(i % 37, static_cast<char>(i))}});
  for (const auto& e : events) ASSERT_TRUE(w->append(e).ok());
  ASSERT_TRUE(w->flush().ok());
  EXPECT_GT(w->frames_written(), 100u);
  EXPECT_EQ(w->bytes_written(), disk.bytes.size());
  spew(dir.path / "log", disk.bytes);
  const ReadBack r = read_all(dir.path / "log");
  EXPECT_EQ(r.events, events);
  EXPECT_EQ(r.tail, LogReader::Tail::open);
}

TEST(EventLog, PeekDoesNotTake) {
  TempDir dir;
  spew(dir.path / "log", sample_log());
  auto log = std::move(LogReader::open(dir.path / "log")).value();
  for (const auto& want : one_of_each()) {
    ASSERT_EQ(*log.peek().value(), want);
    ASSERT_EQ(*log.peek().value(), want);
    ASSERT_EQ(*log.next().value(), want);
  }
  EXPECT_EQ(log.peek().value(), nullptr);
}

// Every changed byte of a finished log is found, and what was read before it is right.
TEST(EventLog, EveryFlippedByteIsDetected) {
  TempDir dir;
  const std::string good = sample_log();
  const auto events = one_of_each();
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const u8 mask : {0x01, 0x80, 0xff, 0x20}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ mask);
      spew(dir.path / "log", bad);
      const ReadBack r = read_all(dir.path / "log");
      ASSERT_THAT(r.error, HasSubstr("log: ")) << "byte " << i << " mask " << int{mask};
      ASSERT_TRUE(is_prefix(r.events, events));
    }
  }
}

// A file cut anywhere is a recording whose recorder was killed: what is whole is read.
TEST(EventLog, TruncationAtEveryLength) {
  TempDir dir;
  const std::string good = sample_log();
  const auto events = one_of_each();
  std::size_t most = 0;
  for (std::size_t size = 0; size < good.size(); ++size) {
    spew(dir.path / "log", good.substr(0, size));
    const ReadBack r = read_all(dir.path / "log");
    if (size < kFileHeaderSize) {
      EXPECT_THAT(r.error, HasSubstr("killed before"));
      continue;
    }
    ASSERT_EQ(r.error, "") << size;
    ASSERT_NE(r.tail, LogReader::Tail::ended);
    ASSERT_TRUE(is_prefix(r.events, events));
    ASSERT_GE(r.events.size(), most);
    most = r.events.size();
  }
  EXPECT_GE(most, 12u);
}

TEST(EventLog, ZerosLeftByACrashOfTheHostAreATornTail) {
  TempDir dir;
  const std::string good = sample_log();
  spew(dir.path / "log", good.substr(0, good.size() - 40) + std::string(100'000, '\0'));
  // The last frame is damaged now (its rest is zeros), which is not the same as a tail of zeros.
  EXPECT_NE(read_all(dir.path / "log").error, "");
  FakeDisk disk;
  FakeHostClock clock;
  auto w = writer_on(disk, clock);
  ASSERT_TRUE(w->append({1, event::Progress{1}}).ok());
  spew(dir.path / "log", disk.bytes + std::string(100'000, '\0'));
  const ReadBack r = read_all(dir.path / "log");
  EXPECT_EQ(r.error, "");
  EXPECT_EQ(r.tail, LogReader::Tail::torn);
  EXPECT_EQ(r.events.size(), 1u);
}

TEST(EventLog, BytesBehindTheEndAndExchangedFramesAreDetected) {
  TempDir dir;
  const std::string good = sample_log();
  spew(dir.path / "log", good + "x");
  EXPECT_THAT(read_all(dir.path / "log").error, HasSubstr("behind the End"));

  FakeDisk disk;
  FakeHostClock clock;
  auto w = writer_on(disk, clock);
  std::vector<std::size_t> ends = {disk.bytes.size()};
  for (u64 i = 1; i <= 3; ++i) {
    ASSERT_TRUE(w->append({i, event::Progress{i}}).ok());
    ends.push_back(disk.bytes.size());
  }
  const auto frame = [&](int i) { return disk.bytes.substr(ends[i], ends[i + 1] - ends[i]); };
  const std::string head = disk.bytes.substr(0, ends[0]);
  for (const std::string& tail :
       {frame(0) + frame(2) + frame(1), frame(1) + frame(2), frame(0) + frame(0) + frame(1)}) {
    spew(dir.path / "log", head + tail);
    EXPECT_NE(read_all(dir.path / "log").error, "");
  }
}

TEST(EventLog, GarbageNeverCrashes) {
  TempDir dir;
  const std::string good = sample_log();
  u64 x = 88172645463325252;  // xorshift64
  for (int round = 0; round < 2000; ++round) {
    std::string bad = good;
    for (int i = 0; i < 1 + round % 9; ++i) {
      x ^= x << 13, x ^= x >> 7, x ^= x << 17;
      bad[x % bad.size()] = static_cast<char>(x >> 32);
    }
    spew(dir.path / "log", bad);
    const ReadBack r = read_all(dir.path / "log");
    ASSERT_TRUE(is_prefix(r.events, one_of_each()));
  }
}

TEST(EventLog, DecoderTakesArbitraryBytes) {
  u64 x = 2463534242;
  for (int round = 0; round < 200'000; ++round) {
    std::string bytes;
    for (int i = 0; i < round % 40; ++i) {
      x ^= x << 13, x ^= x >> 7, x ^= x << 17;
      bytes += static_cast<char>(i == 0 ? x % 15 : x >> 24);
    }
    std::string_view in = bytes;
    CodecState state{.step = x, .host_ns = x};
    (void)decode_event(in, state);
  }
}

// A newer version with a correct checksum is told apart from damage.
TEST(EventLog, NewerVersionIsRefused) {
  TempDir dir;
  u64 chain = 0;
  std::string header = make_file_header(&chain);
  header[8] = static_cast<char>(kLogVersion + 1);
  chain = XXH3_64bits_withSeed(header.data(), 16, 0);
  std::memcpy(header.data() + 16, &chain, 8);
  spew(dir.path / "log", header);
  EXPECT_THAT(read_all(dir.path / "log").error, HasSubstr("newer DejaVM (event log version 4"));
}

TEST(EventLog, InputIsFlushedWithinItsTime) {
  FakeDisk disk;
  FakeHostClock clock;
  auto w = writer_on(disk, clock);
  ASSERT_TRUE(w->append({1, event::Digest{}}).ok());
  ASSERT_TRUE(w->append({1, input::SerialBytes{0, "a"}}).ok());
  const std::size_t before = disk.bytes.size();
  clock.now_ns = 199'000'000;
  ASSERT_TRUE(w->tick().ok());
  EXPECT_EQ(disk.bytes.size(), before);
  clock.now_ns = 200'000'000;
  ASSERT_TRUE(w->tick().ok());
  EXPECT_GT(disk.bytes.size(), before);
  EXPECT_FALSE(w->pending());
  const int appends = disk.appends;
  clock.now_ns += 10'000'000'000;
  ASSERT_TRUE(w->tick().ok());
  EXPECT_EQ(disk.appends, appends) << "nothing to write, nothing written";
}

// The budget: a minute of a busy guest costs less than 1 KiB besides its digests and progress marks.
TEST(EventLog, ABusyMinuteIsSmall) {
  FakeDisk disk;
  FakeHostClock clock;
  auto w = writer_on(disk, clock);
  std::size_t content = 0;
  Step step = 0;
  CodecState state;
  for (u64 tenth = 1; tenth <= 600; ++tenth) {
    clock.now_ns = tenth * 100'000'000 + tenth % 7;
    step += 40'000'000;
    std::vector<LogEvent> now;
    if (tenth % 3 == 0)
      now.push_back({step, event::Digest{step * 0x9e3779b97f4a7c15, step * 0xc2b2ae3d27d4eb4f, ~step}});
    if (tenth % 10 == 0) now.push_back({step, event::Progress{clock.now_ns}});
    for (const auto& e : now) {
      std::string bytes;
      encode_event(e, state, bytes);
      content += bytes.size();
      ASSERT_TRUE(w->append(e).ok());
    }
    ASSERT_TRUE(w->tick().ok());
  }
  EXPECT_LT(disk.bytes.size(), content + 1024);
  EXPECT_LT(disk.bytes.size(), 200 * 31 + 60 * 12 + 1024u);
}

// A disk that fills up at any byte: an error, nothing lost, and all is written once there is room again.
TEST(EventLog, FullDiskAtEveryByteLosesNothing) {
  TempDir dir;
  const std::string good = sample_log();
  for (const bool truncate_fails : {false, true}) {
    for (std::size_t capacity = kFileHeaderSize; capacity < good.size(); ++capacity) {
      FakeDisk disk;
      FakeHostClock clock;
      auto w = writer_on(disk, clock);
      disk.capacity = capacity;
      disk.truncate_fails = truncate_fails;
      bool failed = false;
      for (const auto& e : one_of_each()) failed |= !w->append(e).ok();
      ASSERT_TRUE(failed);
      spew(dir.path / "log", disk.bytes);
      const ReadBack part = read_all(dir.path / "log");
      ASSERT_EQ(part.error, "");
      ASSERT_TRUE(is_prefix(part.events, one_of_each()));
      disk.capacity = ~std::size_t{0};
      disk.truncate_fails = false;
      ASSERT_TRUE(w->close().ok());
      spew(dir.path / "log", disk.bytes);
      ASSERT_EQ(read_all(dir.path / "log").events, one_of_each());
    }
  }
}

TEST(EventLog, FileSizeLimitIsAnErrorThatNamesFileAndCause) {
  TempDir dir;
  const std::string path = (dir.path / "log").string();
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{2000, 2000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    RealHostClock clock;
    auto w = std::move(LogWriter::create(std::move(create_append_file(path)).value(), clock)).value();
    Step step = 0;
    while (true) {
      Status s = w->append({++step, event::Progress{step}});
      if (s) continue;
      const bool clear = s.error().message.find("File too large") != std::string::npos &&
                         s.error().message.find(path) != std::string::npos;
      ::_exit(clear ? 42 : 1);
    }
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 42);
  const ReadBack r = read_all(path);
  EXPECT_EQ(r.error, "");
  EXPECT_GT(r.events.size(), 10u);
}

TEST(EventLog, ExistingLogIsNotOverwritten) {
  TempDir dir;
  spew(dir.path / "log", "precious");
  EXPECT_THAT(create_append_file(dir.path / "log").error().message, HasSubstr("File exists"));
  EXPECT_EQ(slurp(dir.path / "log"), "precious");
}

TEST(EventLog, FollowsALogThatIsBeingWritten) {
  TempDir dir;
  RealHostClock clock;
  auto w =
      std::move(LogWriter::create(std::move(create_append_file(dir.path / "log")).value(), clock)).value();
  auto log = std::move(LogReader::open(dir.path / "log")).value();
  for (u64 i = 0; i < 5; ++i) {
    EXPECT_FALSE(log.next().value());
    EXPECT_EQ(log.tail(), LogReader::Tail::open);
    ASSERT_TRUE(w->append({i, event::Progress{i}}).ok());
    EXPECT_EQ(log.next().value()->step, i);
  }
  ASSERT_TRUE(w->append({9, event::End{}}).ok());
  EXPECT_TRUE(log.next().value());
  EXPECT_FALSE(log.next().value());
  EXPECT_EQ(log.tail(), LogReader::Tail::ended);
}

TEST(Dump, LinesAndFilters) {
  TempDir dir;
  spew(dir.path / "log", sample_log());
  const auto dump = [&](const DumpFilter& filter) {
    auto log = std::move(LogReader::open(dir.path / "log")).value();
    std::vector<std::string> lines;
    EXPECT_TRUE(dump_log(log, filter, [&](const std::string& l) { lines.push_back(l); }).ok());
    return lines;
  };
  EXPECT_EQ(dump({}).size(), one_of_each().size());
  EXPECT_EQ(dump({.kinds = std::move(parse_kinds("serial")).value()}),
            (std::vector<std::string>{R"(             0 serial port=0 "ls\r\x00\xff")",
                                      R"(             7 serial port=3 "")"}));
  EXPECT_EQ(dump({.from = 8, .to = 10}).size(), 3u);
  EXPECT_EQ(dump({.kinds = std::move(parse_kinds("progress,end")).value(), .from = 5'000'000'000}).size(),
            3u);
  EXPECT_THAT(parse_kinds("serial,mouse").error().message, HasSubstr("'mouse' is not a kind"));
}

}  // namespace
}  // namespace deja
