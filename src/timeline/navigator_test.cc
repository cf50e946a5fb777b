// Going back and forth in a recording: wherever one comes from, the machine there is the same.
#include "timeline/navigator.h"

#include <random>

#include "replay/apply.h"
#include "replay/session_for_test.h"
#include "timeline/index_recording.h"
#include "timeline/recorded_state.h"

namespace deja {
namespace {

class NavigatorTest : public SessionTest {
 protected:
  // Sleeps, sleeps cut short, busy stretches, and a reset.
  std::filesystem::path record_a_bit_of_all() {
    type(303, "x"), type(500, "b"), type(700, "yz"), type(900, "r"), type(1203, "b"), type(1500, "q");
    return record();
  }
  std::unique_ptr<Navigator> open(const std::filesystem::path& dir) {
    auto navigator = Navigator::open(dir, engine_);
    EXPECT_TRUE(navigator) << navigator.error().message;
    return std::move(navigator).value();
  }
  void seeks_agree(const std::filesystem::path& dir, unsigned seeks) {
    auto nav = open(dir);
    std::mt19937_64 random(7);
    std::vector<Step> targets{0, nav->last()};
    for (const LogEvent& e : events(dir)) targets.push_back(e.step);
    while (targets.size() < seeks) targets.push_back(random() % (nav->last() + 1));
    std::map<Step, std::pair<MachineDigest, u64>> straight;
    {
      auto sorted = targets;
      std::sort(sorted.begin(), sorted.end());
      auto one_way = Replayer::open(dir, {});
      ASSERT_TRUE(one_way);
      Replayer& r = **one_way;
      for (const Step s : sorted) {
        ASSERT_EQ(r.run_to(s).value(), Replayer::Stop::reached);
        bring_to_rest(r.machine());
        straight[s] = {r.machine().digest(), r.instructions()};
      }
    }
    std::shuffle(targets.begin(), targets.end(), random);
    for (const Step s : targets) {
      const Status status = nav->seek(s);
      ASSERT_TRUE(status.ok()) << status.error().message;
      ASSERT_EQ(nav->position(), s);
      ASSERT_EQ(nav->machine().digest(), straight[s].first) << "step " << s;
      ASSERT_EQ(nav->replayer().instructions(), straight[s].second) << "step " << s;
      // Looks at every page; most seeks begin with some that nobody has looked at.
      if (random() % 4) continue;
      ASSERT_EQ(nav->machine().ram().digest_from_scratch(), straight[s].first.ram) << "step " << s;
    }
  }
  void add_checkpoints(const std::filesystem::path& dir, Step interval) {
    auto report = index_recording({dir, engine_, interval, {}});
    ASSERT_TRUE(report) << report.error().message;
    ASSERT_GT(report->checkpoints, 3u);
  }
  // A key in the log is another than the recorder's machine got.
  std::string report_of_a_divergence() {
    alter_ = [](const LogEvent& e) {
      LogEvent out = e;
      if (auto* typed = std::get_if<input::SerialBytes>(&out.body); typed && typed->bytes == "x")
        typed->bytes = "b";
      return out;
    };
    type(500, "bxb"), type(900, "q");
    const auto dir = record();
    compare_ = [&](const Divergence& d, Machine& m) { return differences_from_recorded(dir, d, m); };
    auto report = replay(dir);
    EXPECT_TRUE(report) << report.error().message;
    EXPECT_TRUE(report->divergence && report->divergence->digests);
    return report->divergence_report;
  }
  // What a recording was at its last checkpoint, before pages of its checkpoints were damaged.
  struct Damage {
    Step step = 0;
    u64 sound_ram = 0;
  };
  // The middle of a page in the file of checkpoints.
  static u64 place_of(const CheckpointReader::PageBatch& batch, u32 i) {
    return batch.offset_of(batch.first + i) + batch.pages[i].size / 2;
  }
  // `choose` picks places, of the batches that have pages.
  template <class Choose>
  Damage damage_pages(const std::filesystem::path& dir, Choose&& choose) {
    Damage damage;
    auto nav = open(dir);
    const CheckpointReader& checkpoints = nav->checkpoints();
    std::vector<CheckpointReader::PageBatch> batches;
    for (const CheckpointReader::PageBatch& batch : checkpoints.batches(checkpoints.size() - 1))
      if (!batch.pages.empty()) batches.push_back(batch);
    EXPECT_GT(batches.size(), 1u);
    damage.step = checkpoints.point(checkpoints.size() - 1).step;
    EXPECT_TRUE(nav->seek(damage.step));
    damage.sound_ram = nav->machine().ram().digest_from_scratch();
    std::string bytes = slurp(dir / "checkpoints.dat");
    for (const u64 at : choose(batches)) bytes[at] = static_cast<char>(bytes[at] ^ 0x55);
    spew(dir / "checkpoints.dat", bytes);
    return damage;
  }
  static u64 absent_pages(Navigator& nav) {
    const GuestRam& ram = nav.machine().ram();
    u64 n = 0;
    for (u64 frame = 0; frame < ram.frames(); ++frame) n += ram.is_absent(frame);
    return n;
  }
  static std::vector<LogEvent> events(const std::filesystem::path& dir) {
    auto recording = Recording::open(dir);
    std::vector<LogEvent> out;
    while (true) {
      auto event = recording->log.next();
      if (!event || !*event) return out;
      out.push_back(**event);
    }
  }
};

TEST_F(NavigatorTest, SeeksInBothDirectionsAgreeWithAStraightReplay) {
  const auto dir = record_a_bit_of_all();
  seeks_agree(dir, 60);
}

TEST_F(NavigatorTest, SeeksUnderEngineChaosAgreeWithAStraightReplay) {
  const auto dir = record_a_bit_of_all();
  for (const u64 seed : {1, 2, 3}) {
    engine_.chaos = {true, seed};
    seeks_agree(dir, 30);
  }
}

TEST_F(NavigatorTest, SeeksFromCheckpointsAgreeWithAStraightReplay) {
  const auto dir = record_a_bit_of_all();
  for (const Step interval : {kTestDigests, kTestDigests / 3}) {  // with and without a digest at each
    add_checkpoints(dir, interval);
    seeks_agree(dir, 60);
    engine_.chaos = {true, 5};
    seeks_agree(dir, 20);
    engine_.chaos = {};
  }
}

TEST_F(NavigatorTest, LoadsPagesWhenSomebodyLooks) {
  const auto dir = record_a_bit_of_all();
  add_checkpoints(dir, kTestDigests);
  auto nav = open(dir);
  const CheckpointReader& checkpoints = nav->checkpoints();
  const Step step = checkpoints.point(checkpoints.size() - 1).step;
  ASSERT_TRUE(nav->seek(step));
  EXPECT_GT(absent_pages(*nav), 0u);
  const u64 ram = nav->machine().digest().ram;
  EXPECT_GT(absent_pages(*nav), 0u) << "a digest that is known needs none";
  ASSERT_TRUE(nav->load_all());
  EXPECT_EQ(absent_pages(*nav), 0u);
  EXPECT_EQ(nav->machine().ram().digest_from_scratch(), ram);
}

TEST_F(NavigatorTest, MakesDamagedPagesAgain) {
  const auto dir = record_a_bit_of_all();
  add_checkpoints(dir, kTestDigests);
  const Damage damage = damage_pages(dir, [](const auto& batches) {
    std::vector<u64> places;  // one of each checkpoint that has any of its own
    places.reserve(batches.size());
    for (const auto& batch : batches) places.push_back(place_of(batch, 0));
    return places;
  });
  auto nav = open(dir);
  ASSERT_TRUE(nav->seek(damage.step));
  EXPECT_EQ(nav->machine().ram().digest_from_scratch(), damage.sound_ram);
  const Status status = nav->load_all();
  EXPECT_TRUE(status) << status.error().message;
}

TEST_F(NavigatorTest, ACheckpointWithAPageThatCannotBeMadeAgainIsPassedOver) {
  const auto dir = record_a_bit_of_all();
  add_checkpoints(dir, kTestDigests);
  const Damage damage = damage_pages(dir, [](const auto& batches) {
    std::vector<u64> places;  // all of the last one
    for (u32 i = 0; i < batches.back().pages.size(); ++i) places.push_back(place_of(batches.back(), i));
    return places;
  });
  auto nav = open(dir);
  ASSERT_TRUE(nav->seek(damage.step));
  std::filesystem::remove(dir / "manifest.json");  // what would make it again cannot be begun
  EXPECT_FALSE(nav->load_all());
  EXPECT_FALSE(nav->sound());
  Status status = nav->seek(damage.step);
  ASSERT_TRUE(status) << status.error().message;
  status = nav->load_all();
  EXPECT_TRUE(status) << status.error().message;
  EXPECT_EQ(nav->machine().ram().digest_from_scratch(), damage.sound_ram);
}

TEST_F(NavigatorTest, ADivergenceShowsBothSidesWhereACheckpointHasTheRecorders) {
  checkpoint_interval_ = kTestDigests;
  const std::string text = report_of_a_divergence();
  EXPECT_NE(text.find("What differs, as recorded first:\n  vCPU 0 rcx"), text.npos) << text;
  EXPECT_NE(text.find("deja bisect"), text.npos);
}

TEST_F(NavigatorTest, ADivergenceWithoutACheckpointSaysWhatIsNotKnown) {
  const std::string text = report_of_a_divergence();
  EXPECT_NE(text.find("no checkpoint was taken at step"), text.npos) << text;
}

TEST_F(NavigatorTest, RefusesWhatLiesBehindTheEnd) {
  const auto dir = record_a_bit_of_all();
  auto nav = open(dir);
  const Status status = nav->seek(nav->last() + 1);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("behind the end of the recording"), std::string::npos);
}

}  // namespace
}  // namespace deja
