// Tests judge hits with closures of their own, which never leave the process.
#pragma once

#include <deque>
#include <utility>

#include "timeline/hit_filter.h"

namespace deja::test {

inline std::deque<HitTest>& closures() {
  static std::deque<HitTest> all;
  return all;
}

inline const HitFilterKind kClosure{"test-closure", [](const ValueBytes& parameters) -> Result<HitTest> {
                                      u64 i = 0;
                                      StateReader(parameters).field(i);
                                      return closures().at(i);
                                    }};

// To be called while nobody searches.
inline HitFilter accept_if(HitTest test) {
  closures().push_back(std::move(test));
  StateWriter parameters;
  parameters.field(u64{closures().size() - 1});
  return {std::string(kClosure.name()), parameters.take()};
}

}  // namespace deja::test
