// manifest.json with anything in it, under a checksum that fits.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/check.h"
#include "eventlog/manifest.h"
#include "fuzz/target.h"

namespace deja::fuzz {
namespace {

constexpr std::string_view kChecksum = ",\n  \"checksum\"";

RecordingManifest some_manifest(Random& random) {
  const auto text = [&] { return random.bytes(random.below(20)); };
  RecordingManifest m;
  m.build = text();
  m.machine.ram_bytes = random.edgy();
  m.machine.vcpus = static_cast<u32>(random.edgy());
  m.machine.cpu_model = text();
  m.machine.cmdline = text();
  m.machine.serial = {text(), text()};
  m.machine.drives = {{text(), true, text()}};
  m.machine.options[text()] = text();
  m.inputs = {{"kernel", text(), std::string(64, 'a'), random.edgy(), "sha256-" + std::string(64, 'a'), ""}};
  m.rng_seed = text();
  if (random.one_in(2)) m.end = EndInfo{{event::EndReason::quit, 0, text()}, random.edgy()};
  return m;
}

std::string with_checksum(std::string text) {
  const auto at = text.rfind(kChecksum);
  if (at == text.npos) return text;
  text.resize(at);
  return text + fmt::format("{}: \"{:016x}\"\n}}\n", kChecksum, XXH3_64bits(text.data(), text.size()));
}

}  // namespace

void run_case(Random& random) {
  std::string text = to_json(some_manifest(random));
  if (random.one_in(10)) {
    // As deep as anybody wants it.
    const std::string open = random.pick<std::string>({"[", "{\"a\":"});
    std::string deep;
    for (u64 n = random.below(100'000); n > 0; --n) deep += open;
    text.insert(text.find('{') + 1, "\"x\": " + deep + ",");
  } else if (random.one_in(3)) {
    // A value becomes one of another type.
    const auto colon = text.find(": ", random.below(text.size()));
    const auto end = colon == text.npos ? text.npos : text.find_first_of(",\n", colon);
    if (end != text.npos)
      text.replace(colon + 2, end - colon - 2,
                   random.pick<std::string>({"-1", "1e999", "18446744073709551616", "null", "[]", "{}",
                                             "\"\"", "true", "\"\\ud800\"", "0.5", "-9223372036854775809"}));
  } else {
    damage(random, text);
  }
  if (!random.one_in(8)) text = with_checksum(text);
  auto manifest = parse_manifest(text, "case");
  if (!manifest) return;
  // What is read can be written, and reads the same again.
  auto again = parse_manifest(to_json(*manifest), "again");
  DEJA_CHECK(again && to_json(*again) == to_json(*manifest), "does not survive: {}", text);
}

}  // namespace deja::fuzz
