// Which hits of an observation count, as a value, so that any thread and any process can judge.
#pragma once

#include <functional>
#include <string>

#include "machine/machine.h"
#include "timeline/named.h"
#include "timeline/value_codec.h"

namespace deja {

// Whether a hit counts; the machine stands where it was observed. Changes nothing.
using HitTest = std::function<bool(Machine&, const Hit&)>;

struct HitFilter {
  std::string kind;  // a HitFilterKind's; empty: each hit counts
  ValueBytes parameters;
};

template <class A>
void serialize(A& a, HitFilter& f) {
  text_field(a, f.kind);
  a.vector(f.parameters);
}

class HitFilterKind : public Named<HitFilterKind> {
 public:
  // Makes the test that has these parameters, which owns what it needs. An error: they are damaged.
  using Make = Result<HitTest> (*)(const ValueBytes& parameters);
  HitFilterKind(std::string_view name, Make make) : Named(name), make_(make) {}
  Make make() const { return make_; }

 private:
  const Make make_;
};

Result<HitTest> make_test(const HitFilter& filter);

}  // namespace deja
