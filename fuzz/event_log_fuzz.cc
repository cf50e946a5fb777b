// Event logs: whole frames around hostile events, damaged frames, damaged files; read from start to end, and
// from places in between.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"
#include "eventlog/dump.h"
#include "eventlog/frame.h"
#include "eventlog/log_reader.h"
#include "fuzz/target.h"

namespace deja::fuzz {
namespace {

LogEvent some_event(Random& random, Step step) {
  const std::string text = random.bytes(random.one_in(30) ? kMaxEventBytes : random.below(40));
  switch (random.below(9)) {
    case 0:
      return {step, input::SerialBytes{static_cast<u8>(random.below(2)), text.empty() ? "x" : text}};
    case 1:
      return {step, input::NetFrame{0, text.empty() ? "x" : text}};
    case 2:
      return {step, input::Mark{text}};
    case 3:
      return {step, event::WallClock{static_cast<i64>(random())}};
    case 4:
      return {step, event::IdleCut{random.edgy()}};
    case 5:
      return {step, event::Digest{random(), random(), random()}};
    case 6:
      return {step, input::SerialBreak{static_cast<u8>(random.below(2))}};
    case 7:
      return {step, event::End{event::EndReason::quit, static_cast<u32>(random()), text}};
    default:
      return {step, input::PowerButton{}};
  }
}

std::string some_log(Random& random) {
  u64 chain = 0;
  std::string log = make_file_header(&chain);
  CodecState codec;
  for (u64 frames = random.below(5); frames > 0; --frames) {
    std::string raw;
    Step step = codec.step;
    for (u64 n = 1 + random.below(20); n > 0; --n) {
      step += random.one_in(50) ? random.below(~u64{0} - step) : random.below(1'000'000);
      encode_event(some_event(random, step), codec, raw);
    }
    // Damage that the checksums do not show: whoever makes a recording can make them fit.
    if (random.one_in(2)) damage(random, raw);
    if (raw.empty() || raw.size() > kMaxFrameRaw) continue;
    log += make_frame(raw, chain, &chain);
  }
  if (random.one_in(3)) damage(random, log);
  return log;
}

}  // namespace

void run_case(Random& random) {
  const MemoryFile file(some_log(random));
  auto reader = LogReader::adopt(file.path(), file.duplicate());
  if (!reader) return;
  std::vector<LogReader::Cursor> cursors;
  for (unsigned i = 0; i < 200; ++i) {
    if (random.one_in(4)) cursors.push_back(reader->cursor());
    auto event = reader->next();
    if (!event || !*event) break;
    (void)describe((*event)->body);
  }
  for (const LogReader::Cursor& cursor : cursors)
    if (reader->seek(cursor)) (void)reader->peek();
}

}  // namespace deja::fuzz
