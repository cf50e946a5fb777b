// What is looked out for, and what was seen, as bytes.
#pragma once

#include "execute/observation.h"
#include "timeline/value_codec.h"

namespace deja {

template <class A>
void serialize(A& a, CodeBreakpoint& b) {
  a.field(b.pc);
  optional_field(a, b.cr3);
  a.field(b.restarts);
}

template <class A>
void serialize(A& a, Watchpoint& w) {
  a.field(w.kinds);
  a.field(w.changes_only);
  a.field(w.physical);
  a.field(w.address);
  a.field(w.size);
  optional_field(a, w.cr3);
}

template <class A>
void serialize(A& a, ObservationSpec& s) {
  list_field(a, s.breakpoints);
  list_field(a, s.watchpoints);
  optional_field(a, s.delivery_at);
  optional_field(a, s.turn_of);
  a.field(s.skip_at);
}

template <class A>
void serialize(A& a, Hit& h) {
  a.field(h.kind);
  a.field(h.index);
  optional_field(a, h.vcpu);
  a.field(h.cause);
  a.field(h.rip);
  a.field(h.rsp);
  a.field(h.cr3);
  a.field(h.step);
  a.field(h.at.value);
  a.vector(h.before);
  a.vector(h.now);
}

}  // namespace deja
