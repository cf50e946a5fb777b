// Files of checkpoints: records that make no sense under checksums that fit, damaged files.
#include <zstd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"
#include "checkpoint/checkpoint_reader.h"
#include "eventlog/event_codec.h"
#include "fuzz/target.h"

namespace deja::fuzz {
namespace {

constexpr u32 kFrames = 256;  // of RAM
constexpr u32 kBlocks = 100;  // of each of two disks

void put(std::string& out, u64 value) { out.append(reinterpret_cast<const char*>(&value), sizeof value); }
u64 hash(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

CheckpointRecord some_record(Random& random, u32 first_new) {
  CheckpointRecord r;
  r.point.step = random.one_in(8) ? random.edgy() : random.below(1'000'000);
  r.point.machine.cpus.resize(random.below(50));
  r.point.machine.devices.resize(random.below(50));
  r.first_new = random.one_in(10) ? static_cast<u32>(random.edgy()) : first_new;
  for (u64 n = random.below(5); n > 0; --n)
    r.new_pages.push_back(
        {{random(), random()}, static_cast<u16>(random.one_in(10) ? random() : random.below(4097))});
  r.whole = random.one_in(3);
  const auto frames = [&](u32 end) {
    std::vector<FramePage> out;
    for (u32 frame = 0; frame < end; frame += 1 + static_cast<u32>(random.below(60)))
      out.push_back(
          {frame, static_cast<u32>(random.one_in(20) ? random.edgy() : random.below(first_new + 5))});
    return out;
  };
  const auto changes = [&](u32 end) {
    PageChanges c{frames(end), {}};
    if (r.whole) c.others = frames(end);
    return c;
  };
  r.point.serial = random.bytes(random.below(20));
  r.ram = changes(kFrames);
  for (u64 n = random.one_in(20) ? random.below(4) : 2; n > 0; --n) r.disks.push_back(changes(kBlocks));
  return r;
}

// Unpacks the meta of an encoded record, damages it, and packs it again with checksums that fit.
std::string distorted(Random& random, const std::string& record) {
  const std::string_view packed = std::string_view(record).substr(kRecordHeaderSize);
  std::string raw(ZSTD_getFrameContentSize(packed.data(), packed.size()), '\0');
  ZSTD_decompress(raw.data(), raw.size(), packed.data(), packed.size());
  damage(random, raw);
  std::string again(ZSTD_compressBound(raw.size()), '\0');
  again.resize(ZSTD_compress(again.data(), again.size(), raw.data(), raw.size(), 1));
  std::string head = record.substr(0, 8);
  put(head, random.one_in(10) ? random.edgy() : again.size());
  head += record.substr(16, 8);
  if (random.one_in(10)) {
    const u64 pages = random.edgy();
    std::memcpy(&head[16], &pages, 8);
  }
  put(head, hash(again));
  put(head, hash(head));
  return head + again;
}

}  // namespace

void run_case(Random& random) {
  std::string bytes = make_checkpoint_file_header(1);
  u32 first_new = kFirstStoredPage;
  for (u64 n = 1 + random.below(4); n > 0; --n) {
    const CheckpointRecord record = some_record(random, first_new);
    const std::string encoded = encode_checkpoint(record);
    bytes += random.one_in(2) ? distorted(random, encoded) : encoded;
    for (const StoredPage& page : record.new_pages) bytes += random.bytes(page.size);
    first_new += static_cast<u32>(record.new_pages.size());
  }
  if (random.one_in(3)) damage(random, bytes);
  const MemoryFile file(bytes);
  const CheckpointReader reader =
      CheckpointReader::adopt(file.path(), file.duplicate(), 1, {kFrames, {kBlocks, kBlocks}});
  for (std::size_t i = 0; i < reader.size(); ++i) {
    RamImage image = reader.image(i);
    DEJA_CHECK(image.size() == kFrames);
    (void)reader.may_have_written(i, static_cast<u32>(random.below(kFrames)));
    std::sort(image.begin(), image.end());
    image.erase(std::unique(image.begin(), image.end()), image.end());
    std::erase_if(image, [](u32 number) { return number < kFirstStoredPage; });
    (void)reader.read_pages(image, [](u32, const u8* page) { (void)page_key(page); });
  }
}

}  // namespace deja::fuzz
