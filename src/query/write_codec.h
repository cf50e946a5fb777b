// Writes, and the memory that is asked about, as bytes.
#pragma once

#include "query/who_wrote.h"
#include "timeline/value_codec.h"

namespace deja {

template <class A>
void serialize(A& a, MemoryPiece& p) {
  a.field(p.at.value);
  a.field(p.size);
}

// Without the symbol, which is found afterwards.
template <class A>
void serialize(A& a, Write& w) {
  a.field(w.before);
  a.field(w.after);
  optional_field(a, w.vcpu);
  a.field(w.cause);
  a.field(w.offset);
  a.field(w.at.value);
  a.vector(w.old_bytes);
  a.vector(w.new_bytes);
  a.field(w.rip);
  a.field(w.cr3);
  a.field(w.cpl);
  text_field(a, w.instruction);
}

}  // namespace deja
