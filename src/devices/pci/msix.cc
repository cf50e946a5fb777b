#include "devices/pci/msix.h"

#include "base/check.h"

namespace deja {

MsixTable::MsixTable(unsigned vectors, MsiSink sink) : vectors_(vectors), sink_(std::move(sink)) {
  DEJA_CHECK(vectors >= 1 && vectors <= kMaxVectors);
  reset();
}

void MsixTable::reset() {
  for (Entry& e : entries_) e = {{0, 0, 0, 1}};
  pending_ = 0;
}

void MsixTable::save(StateWriter& w) const {
  for (unsigned v = 0; v < vectors_; ++v) w.field(entries_[v].words);
  w.field(pending_);
}

bool MsixTable::restore(StateReader& r) {
  bool ok = true;
  for (unsigned v = 0; v < vectors_; ++v) {
    r.field(entries_[v].words);
    ok = ok && (entries_[v].words[0] & 3) == 0 && entries_[v].words[3] <= 1;
  }
  r.field(pending_);
  ok = ok && r.ok() && !(u64{pending_} >> vectors_);
  if (!ok) reset();
  return ok;
}

u64 MsixTable::read(u64 offset, unsigned size) const {
  u64 value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const u64 at = offset + i;
    u8 byte = 0;
    if (at < vectors_ * kEntrySize)
      byte = static_cast<u8>(entries_[at / kEntrySize].words[at % kEntrySize / 4] >> (8 * (at % 4)));
    else if (at >= kPendingOffset && at < kPendingOffset + 4)
      byte = static_cast<u8>(pending_ >> (8 * (at - kPendingOffset)));
    value |= u64{byte} << (8 * i);
  }
  return value;
}

// Accesses are double words or quad words, aligned; others are undefined there and do nothing here.
void MsixTable::write(u64 offset, u64 value, unsigned size, bool usable) {
  if ((size != 4 && size != 8) || offset % size) return;
  for (unsigned i = 0; i < size; i += 4) {
    const u64 at = offset + i;
    if (at >= vectors_ * kEntrySize) return;
    const unsigned vector = static_cast<unsigned>(at / kEntrySize), word = at % kEntrySize / 4;
    u32 v = static_cast<u32>(value >> (8 * i));
    if (word == 0) v &= ~u32{3};
    if (word == 3) v &= 1;
    entries_[vector].words[word] = v;
    if (word == 3 && usable && !masked(vector) && (pending_ >> vector & 1)) send(vector);
  }
}

void MsixTable::raise(unsigned vector, bool usable) {
  if (vector >= vectors_) return;
  if (usable && !masked(vector))
    send(vector);
  else
    pending_ |= u32{1} << vector;
}

void MsixTable::flush() {
  for (unsigned v = 0; v < vectors_; ++v)
    if ((pending_ >> v & 1) && !masked(v)) send(v);
}

void MsixTable::send(unsigned vector) {
  pending_ &= ~(u32{1} << vector);
  const Entry& e = entries_[vector];
  sink_(e.words[0] | u64{e.words[1]} << 32, e.words[2]);
}

}  // namespace deja
