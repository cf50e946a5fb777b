// The versions of what a guest can see of the machine, and how to make a new one.
//
// A recording replays with the version that its manifest names, and every version from kOldestBehaviour on
// stays, as QEMU's machine types do. A change that a guest can notice leaves the old behaviour where it is:
//
//  1. kMachineBehaviour goes up by one, unless no release has had it yet; docs/determinism.md, section 7,
//  lists
//     the change.
//  2. Where the machine is put together (Machine::build_devices for a device, Machine::create for the CPU
//     model), and nowhere else, the version becomes a property that is named for what the guest sees. The
//     device or the model knows the property, not the version:
//
//       I8254Config config;
//       config.latches_status = config_.behaviour >= 11;  // read-back command: since version 11
//
//  3. A property's saved state is saved only where it is on: save() and restore() of the older version stay
//  as
//     they are, byte for byte.
//  4. Unit tests cover the property on and off. The golden recordings show that the older versions are as
//  they
//     were, and new ones are made of the new version (tests/golden/README.md).
#pragma once

#include <string>

#include "base/result.h"
#include "base/types.h"

namespace deja {

inline constexpr u32 kOldestBehaviour = 10;
inline constexpr u32 kMachineBehaviour = 10;  // the newest, which a recording gets if no other is asked for

// Versions, both included.
struct BehaviourRange {
  u32 oldest = kOldestBehaviour, newest = kMachineBehaviour;
};

// "10", or "10 to 12".
std::string to_string(BehaviourRange range);

// The error says why the machine cannot behave as `version`, and ends without a full stop. `range` is another
// one in tests only.
Status check_behaviour(u32 version, BehaviourRange range = {});

}  // namespace deja
