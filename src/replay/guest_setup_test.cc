// The way of the machine's behaviour version: manifest, configuration, machine, device.
#include "replay/guest_setup.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "machine/images_for_test.h"

namespace deja {
namespace {

using testing::HasSubstr;

constexpr BehaviourRange kOneMore{kOldestBehaviour, kMachineBehaviour + 1};

// What a change looks like, by the rules in machine/behaviour.h: the counter of later machines counts down.
struct Counter {
  bool counts_down;
  int value = 0;
  void clock() { value += counts_down ? -1 : 1; }
};
Counter build_counter(const MachineConfig& config) {
  return {.counts_down = config.behaviour >= kMachineBehaviour + 1};
}

RecordingManifest manifest_of(u32 behaviour) {
  GuestSetup setup;
  setup.spec.ram_bytes = 32_MiB;
  setup.spec.cpu_model = "x86-64-v3";
  setup.spec.quantum_steps = 200'000;
  setup.spec.boot_mode = "vmlinux";
  setup.rtc_unix_seconds = 1'000'000'000;
  setup.rng_seed = "seed";
  setup.behaviour = behaviour;
  RecordingManifest manifest;
  manifest.build = "test";
  to_manifest(setup, &manifest);
  return parse_manifest(to_json(manifest), "manifest.json").value();
}

class GuestSetupTest : public testing::Test {
 protected:
  GuestSetupTest() { files_.kernel = {"kernel", test::make_vmlinux(), {}}; }
  Result<std::unique_ptr<Machine>> build(const RecordingManifest& manifest, BehaviourRange behaviours) {
    DEJA_ASSIGN(const MachineConfig config, machine_config(setup_of(manifest), files_, behaviours));
    return Machine::create(config, {});
  }
  GuestFiles files_;
};

TEST_F(GuestSetupTest, AMachineBehavesAsItsManifestSays) {
  for (const u32 version : {kMachineBehaviour, kMachineBehaviour + 1}) {
    auto machine = build(manifest_of(version), kOneMore);
    ASSERT_TRUE(machine.ok()) << machine.error().message;
    EXPECT_EQ((*machine)->config().behaviour, version);
    Counter counter = build_counter((*machine)->config());
    counter.clock();
    EXPECT_EQ(counter.value, version == kMachineBehaviour ? 1 : -1);
  }
}

TEST_F(GuestSetupTest, AVersionThatTheMachineDoesNotKnowIsRefused) {
  for (const u32 version : {kOldestBehaviour - 1, kMachineBehaviour + 1}) {
    const auto refused = machine_config(setup_of(manifest_of(version)), files_);
    ASSERT_FALSE(refused.ok());
    EXPECT_THAT(refused.error().message, HasSubstr(fmt::format("version {}", version)));
  }
}

TEST_F(GuestSetupTest, ManifestAndSetupSayTheSame) {
  const RecordingManifest manifest = manifest_of(kMachineBehaviour + 1);
  RecordingManifest again;
  to_manifest(setup_of(manifest), &again);
  EXPECT_EQ(again.machine_version, kMachineBehaviour + 1);
  EXPECT_EQ(again.machine, manifest.machine);
  EXPECT_EQ(again.rtc_base_unix_seconds, 1'000'000'000);
  EXPECT_EQ(again.rng_seed, "seed");
}

}  // namespace
}  // namespace deja
