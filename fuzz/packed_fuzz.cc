// Packed recordings: archives with names, sizes and types that nobody should believe.
#include <zstd.h>

#include <algorithm>
#include <filesystem>

#include "base/check.h"
#include "eventlog/manifest.h"
#include "eventlog/packed_recording.h"
#include "eventlog/temp_dir_for_test.h"
#include "fuzz/target.h"

namespace deja::fuzz {
namespace {

constexpr std::size_t kBlock = 512;

std::string member(Random& random, const std::string& name, const std::string& content) {
  std::string h(kBlock, '\0');
  h.replace(0, std::min<std::size_t>(name.size(), 100), name, 0, 100);
  h.replace(100, 7, "0000600");
  const u64 size = random.one_in(12) ? random.edgy() : content.size();
  h.replace(124, 11, fmt::format("{:011o}", size & 077777777777));
  if (random.one_in(12)) h.replace(124, 12, random.bytes(12)), h[124] = '\x80';
  h[156] = random.one_in(12) ? static_cast<char>('0' + random.below(8)) : '0';
  if (random.one_in(12)) h.replace(157, 11, "/etc/passwd");  // what a link leads to
  h.replace(257, 8, std::string("ustar\00000", 8));
  if (random.one_in(12)) h.replace(345, 4, "/tmp");
  h.replace(148, 8, 8, ' ');
  unsigned sum = 0;
  for (const unsigned char c : h) sum += c;
  h.replace(148, 8, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
  return h + content + std::string((kBlock - content.size() % kBlock) % kBlock, '\0');
}

// It names one input.
std::string some_manifest(Random& random) {
  RecordingManifest m;
  m.machine.ram_bytes = 1_MiB;
  m.inputs = {{"kernel", "/kernel", std::string(64, 'a'), random.below(1500), "", ""}};
  return to_json(m);
}

}  // namespace

void run_case(Random& random) {
  static const TempDir dir;
  const std::filesystem::path file = dir.path / "case.dejavm", recording = dir.path / "inner" / "case.deja";
  std::filesystem::create_directories(recording.parent_path());
  std::string tar;
  if (!random.one_in(4)) tar = member(random, "manifest.json", some_manifest(random));
  for (u64 n = 1 + random.below(4); n > 0; --n) {
    const std::string name = random.pick<std::string>(
        {"manifest.json", "events.log", "checkpoints.dat", "inputs/sha256-" + std::string(64, 'a'),
         "../escaped", "/tmp/deja-fuzz-escaped", "inputs/../../escaped", "inputs/sha256-../../../escaped",
         "manifest.json/x", ""});
    tar += member(random, name, random.bytes(random.below(1500)));
  }
  if (!random.one_in(4)) tar.append(2 * kBlock, '\0');
  if (random.one_in(3)) damage(random, tar);
  std::string packed(ZSTD_compressBound(tar.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), tar.data(), tar.size(), 1));
  if (random.one_in(3)) damage(random, packed);
  spew(file, packed);
  (void)unpack_recording(file, recording);
  std::error_code ec;
  std::filesystem::remove_all(recording, ec);
  // Nothing may be left, or have got out.
  DEJA_CHECK(std::filesystem::is_empty(recording.parent_path()), "something is left behind");
  DEJA_CHECK(std::distance(std::filesystem::directory_iterator(dir.path), {}) == 2, "something got out");
  DEJA_CHECK(!std::filesystem::exists("/tmp/deja-fuzz-escaped"), "something got out to /tmp");
}

}  // namespace deja::fuzz
