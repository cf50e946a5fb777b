// Who wrote what: every write of a recording, and the last one before each moment.
#include "query/who_wrote.h"

#include <gtest/gtest.h>

#include "query/write_codec.h"
#include "timeline/ticking_recording_for_test.h"
#include "timeline/trim.h"

namespace deja {
namespace {

class WhoWroteTest : public TickingRecordingTest {
 protected:
  static std::vector<Write> every_write(Navigator& nav) {
    WhoWrote request{{{Gpa(kTicks), 4}}, nav.last(), true, {}};
    auto writes = who_wrote(nav, request);
    EXPECT_TRUE(writes);
    return std::move(writes).value();
  }
  static std::vector<Step> places(const std::vector<Write>& writes) {
    std::vector<Step> out;
    out.reserve(writes.size());
    for (const Write& w : writes) out.push_back(w.before);
    return out;
  }
};

TEST_F(WhoWroteTest, EveryTickIsAWriteAndTheLastOneBeforeTheNext) {
  add_checkpoints();
  auto nav = open(dir_);
  const std::vector<Hit> seen = ticks(*nav);
  const std::vector<Write> writes = every_write(*nav);
  ASSERT_EQ(writes.size(), seen.size());
  for (std::size_t i = 0; i < writes.size(); ++i) {
    ASSERT_EQ(writes[i].after, seen[i].step) << "write " << i;
    ASSERT_EQ(writes[i].new_bytes, seen[i].now) << "write " << i;
  }
  for (const std::size_t i : {writes.size() - 1, writes.size() / 2, std::size_t{0}}) {
    auto last = who_wrote(*nav, {{{Gpa(kTicks), 4}}, writes[i].after, false, {}});
    ASSERT_TRUE(last) << last.error().message;
    ASSERT_EQ(last->size(), 1u);
    EXPECT_EQ(describe((*last)[0]), describe(writes[i]));
  }
  auto nobody = who_wrote(*nav, {{{Gpa(kTicks), 4}}, writes[0].before, false, {}});
  ASSERT_TRUE(nobody);
  EXPECT_TRUE(nobody->empty());
}

TEST_F(WhoWroteTest, AnInterruptedCollectionIsAnError) {
  auto nav = open(dir_);
  auto writes = who_wrote(*nav, {{{Gpa(kTicks), 4}}, nav->last(), true, [] { return true; }});
  ASSERT_FALSE(writes);
  EXPECT_EQ(writes.error().message, "interrupted");
}

TEST(WriteCodec, BytesAreTheWholeWrite) {
  Write w;
  w.before = 7, w.after = 8, w.vcpu = 1, w.cause = AccessCause::delivery, w.offset = 3, w.at = Gpa(0x1003);
  w.old_bytes = {1, 2}, w.new_bytes = {3, 4}, w.rip = 5, w.cr3 = 6, w.cpl = 3, w.instruction = "push rax";
  auto same = from_bytes<Write>(1, "a write", to_bytes(1, w));
  ASSERT_TRUE(same) << same.error().message;
  EXPECT_EQ(describe(*same), describe(w));
  EXPECT_EQ(same->after, w.after);
  EXPECT_EQ(same->offset, w.offset);
  EXPECT_EQ(same->cr3, w.cr3);
  EXPECT_EQ(to_bytes(1, *same), to_bytes(1, w));
  w.vcpu.reset();
  EXPECT_FALSE(from_bytes<Write>(1, "a write", to_bytes(1, w))->vcpu);
  ValueBytes cut = to_bytes(1, w);
  cut.pop_back();
  EXPECT_FALSE(from_bytes<Write>(1, "a write", cut));
  EXPECT_FALSE(from_bytes<Write>(2, "a write", to_bytes(1, w)));
}

TEST_F(WhoWroteTest, CheckpointsThatRuleIntervalsOutChangeNoAnswer) {
  const std::vector<Step> without = places(every_write(*open(dir_)));
  add_checkpoints();
  EXPECT_EQ(places(every_write(*open(dir_))), without);
}

TEST_F(WhoWroteTest, WorkersCollectTheWritesThatOneThreadCollects) {
  add_checkpoints(kInterval / 4);
  for (const bool chaos : {false, true}) {
    engine_.chaos.enabled = chaos;
    auto alone = open(dir_), together = open(dir_);
    SearchWorkers workers(dir_, engine_, 3);
    for (const u64 size : {1, 4, 4096}) {
      WhoWrote request{{{Gpa(kTicks), size}, {Gpa(0x7f000), kPageSize}}, alone->last() - 5, true, {}};
      auto expected = who_wrote(*alone, request);
      request.workers = &workers;
      auto found = who_wrote(*together, request);
      ASSERT_TRUE(expected) << expected.error().message;
      ASSERT_TRUE(found) << found.error().message;
      ASSERT_GT(found->size(), 50u);
      ASSERT_EQ(found->size(), expected->size());
      for (std::size_t i = 0; i < found->size(); ++i) {
        ASSERT_EQ(describe((*found)[i]), describe((*expected)[i])) << "write " << i;
        ASSERT_EQ((*found)[i].after, (*expected)[i].after) << "write " << i;
      }
    }
  }
}

TEST_F(WhoWroteTest, AWindowHasTheWritesThatHappenedInIt) {
  auto nav = open(dir_);
  const std::vector<Step> all = places(every_write(*nav));
  TrimRequest request;
  request.from = all[10] + 1;
  request.to = all[30] + 1;
  request.name = (temp_.path / "window").string();
  request.interval = kInterval;
  auto report = trim_recording(*nav, request, clock_);
  ASSERT_TRUE(report) << report.error().message;
  auto window = open(report->dir);
  EXPECT_EQ(window->first(), request.from);
  EXPECT_EQ(places(every_write(*window)), std::vector<Step>(all.begin() + 11, all.begin() + 31));
  auto nobody = who_wrote(*window, {{{Gpa(kTicks), 4}}, all[11], false, {}});
  ASSERT_TRUE(nobody);
  EXPECT_TRUE(nobody->empty());
}

}  // namespace
}  // namespace deja
