// Going back and forth in a recording: wherever one comes from, the machine there is the same.
#include "timeline/navigator.h"

#include <random>

#include "replay/apply.h"
#include "replay/session_for_test.h"

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
      ASSERT_EQ(nav->machine().ram().digest_from_scratch(), straight[s].first.ram) << "step " << s;
    }
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

TEST_F(NavigatorTest, RefusesWhatLiesBehindTheEnd) {
  const auto dir = record_a_bit_of_all();
  auto nav = open(dir);
  const Status status = nav->seek(nav->last() + 1);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("behind the end of the recording"), std::string::npos);
}

}  // namespace
}  // namespace deja
