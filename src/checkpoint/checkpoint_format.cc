#include "checkpoint/checkpoint_format.h"

#include <zstd.h>

#include <cstring>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "eventlog/event_codec.h"

namespace deja {
namespace {

constexpr u64 kWhole = 1, kSerialLeftOut = 2;  // of a record

constexpr std::string_view kFileMagic = "DEJACKPT";
constexpr u64 kRecordMagic = 0x54504b43414a4544;  // "DEJACKPT" again, to tell a shifted file
constexpr int kMetaLevel = 1;
constexpr u64 kMaxRecordPages = u64{64} << 30;

void put(std::string& out, u64 value) { out.append(reinterpret_cast<const char*>(&value), sizeof value); }

u64 get(std::string_view bytes, std::size_t at) {
  u64 value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

u64 hash(std::string_view bytes) { return XXH3_64bits(bytes.data(), bytes.size()); }

template <class Bytes>
void put_bytes(std::string& out, const Bytes& bytes) {
  put_varint(out, bytes.size());
  out.append(bytes.begin(), bytes.end());
}

void put_frames(std::string& out, const std::vector<FramePage>& frames) {
  put_varint(out, frames.size());
  u32 last_frame = 0;
  u64 last_page = 0;
  for (const FramePage& f : frames) {
    put_varint(out, f.frame - last_frame);
    // New pages come in the order of their frames: small differences, either way.
    const i64 difference = static_cast<i64>(f.page) - static_cast<i64>(last_page);
    put_varint(out, static_cast<u64>(difference) << 1 ^ static_cast<u64>(difference >> 63));
    last_frame = f.frame;
    last_page = f.page;
  }
}

void put_changes(std::string& out, const PageChanges& changes, bool whole) {
  put_frames(out, changes.written);
  if (whole) put_frames(out, changes.others);
}

// Takes things off the front; after the first that does not fit everything is zero.
struct Parser {
  std::string_view in;
  bool ok = true;

  u64 varint() {
    u64 value = 0;
    if (!ok || !get_varint(in, &value)) {
      ok = false;
      return 0;
    }
    return value;
  }
  std::string_view bytes(u64 size) {
    if (!ok || size > in.size()) {
      ok = false;
      return {};
    }
    const std::string_view taken = in.substr(0, size);
    in.remove_prefix(size);
    return taken;
  }
  template <class Bytes>
  Bytes counted_bytes() {
    const std::string_view b = bytes(varint());
    return {b.begin(), b.end()};
  }
  std::vector<FramePage> frames(u64 frames, u32 end_page) {
    const u64 count = varint();
    if (count > frames || count > in.size()) ok = false;
    std::vector<FramePage> out;
    if (!ok) return out;
    out.reserve(count);
    u64 frame = 0, page = 0;
    for (u64 i = 0; i < count && ok; ++i) {
      const u64 step = varint(), zigzag = varint();
      if ((i && step == 0) || step > frames) ok = false;
      frame += step;
      page += zigzag >> 1 ^ (u64{0} - (zigzag & 1));
      if (frame >= frames || page >= end_page) ok = false;
      out.push_back({static_cast<u32>(frame), static_cast<u32>(page)});
    }
    return out;
  }
  PageChanges changes(u64 count, u32 end_page, bool whole) {
    PageChanges out;
    out.written = frames(count, end_page);
    if (whole) out.others = frames(count, end_page);
    return out;
  }
};

}  // namespace

PageKey page_key(const u8* page) {
  const XXH128_hash_t h = XXH3_128bits(page, kPageSize);
  return {h.low64, h.high64};
}

std::string make_checkpoint_file_header(u64 recording) {
  std::string out(kFileMagic);
  put(out, kCheckpointVersion);
  put(out, recording);
  put(out, hash(out));
  return out;
}

Result<u64> parse_checkpoint_file_header(std::string_view bytes) {
  if (bytes.size() < kCheckpointFileHeaderSize || !bytes.starts_with(kFileMagic) ||
      get(bytes, 24) != hash(bytes.substr(0, 24)))
    return make_error("not a file of checkpoints, or its beginning is damaged");
  if (get(bytes, 8) != kCheckpointVersion)
    return make_error("checkpoints of format version {}, and this deja reads {}", get(bytes, 8),
                      kCheckpointVersion);
  return get(bytes, 16);
}

std::string encode_checkpoint(const CheckpointRecord& r) {
  std::string raw;
  const CheckpointPoint& p = r.point;
  for (const u64 x : {u64{p.step}, u64{p.vtime}, p.events, p.warps, p.deliveries}) put_varint(raw, x);
  put_bytes(raw, p.machine.cpus);
  put_bytes(raw, p.machine.devices);
  put_bytes(raw, p.serial);
  put_varint(raw, r.first_new);
  put_varint(raw, r.new_pages.size());
  u64 pages_size = 0;
  for (const StoredPage& page : r.new_pages) {
    put(raw, page.key.low);
    put(raw, page.key.high);
    put_varint(raw, page.size);
    pages_size += page.size;
  }
  put_varint(raw, (r.whole ? kWhole : 0) | (p.serial_left_out ? kSerialLeftOut : 0));
  put_changes(raw, r.ram, r.whole);
  put_varint(raw, r.disks.size());
  for (const PageChanges& disk : r.disks) put_changes(raw, disk, r.whole);

  std::string packed(ZSTD_compressBound(raw.size()), '\0');
  const std::size_t n = ZSTD_compress(packed.data(), packed.size(), raw.data(), raw.size(), kMetaLevel);
  DEJA_CHECK(!ZSTD_isError(n), "{}", ZSTD_getErrorName(n));
  packed.resize(n);

  std::string out;
  put(out, kRecordMagic);
  put(out, packed.size());
  put(out, pages_size);
  put(out, hash(packed));
  put(out, hash(out));
  return out + packed;
}

Result<RecordHeader> parse_record_header(std::string_view bytes) {
  if (bytes.size() < kRecordHeaderSize || get(bytes, 0) != kRecordMagic ||
      get(bytes, 32) != hash(bytes.substr(0, 32)))
    return make_error("the header of a checkpoint is damaged");
  const RecordHeader h{get(bytes, 8), get(bytes, 16), get(bytes, 24)};
  if (h.meta_size > kMaxMetaBytes || h.pages_size > kMaxRecordPages)
    return make_error("the header of a checkpoint has impossible sizes");
  return h;
}

Result<CheckpointRecord> decode_checkpoint(std::string_view meta, const RecordHeader& header,
                                           const MachineShape& shape) {
  if (hash(meta) != header.meta_checksum) return make_error("its checksum is wrong");
  const auto size = ZSTD_getFrameContentSize(meta.data(), meta.size());
  if (size == ZSTD_CONTENTSIZE_UNKNOWN || size == ZSTD_CONTENTSIZE_ERROR || size > kMaxMetaBytes)
    return make_error("its data cannot be unpacked");
  std::string raw(size, '\0');
  const std::size_t n = ZSTD_decompress(raw.data(), raw.size(), meta.data(), meta.size());
  if (ZSTD_isError(n) || n != size) return make_error("its data cannot be unpacked");

  Parser in{raw};
  CheckpointRecord r;
  CheckpointPoint& p = r.point;
  for (u64* x : {&p.step, &p.vtime, &p.events, &p.warps, &p.deliveries}) *x = in.varint();
  p.machine.cpus = in.counted_bytes<std::vector<u8>>();
  p.machine.devices = in.counted_bytes<std::vector<u8>>();
  p.serial = in.counted_bytes<std::string>();
  const u64 first = in.varint(), count = in.varint();
  u64 pages_size = 0;
  if (first < kFirstStoredPage || first > kMaxPages || count > kMaxPages - first || count > in.in.size() / 17)
    in.ok = false;
  if (in.ok) {
    r.first_new = static_cast<u32>(first);
    r.new_pages.resize(count);
    for (StoredPage& page : r.new_pages) {
      const std::string_view key = in.bytes(16);
      if (!in.ok) break;
      page.key = {get(key, 0), get(key, 8)};
      const u64 stored = in.varint();
      if (stored == 0 || stored > kPageSize) in.ok = false;
      page.size = static_cast<u16>(stored);
      pages_size += stored;
    }
  }
  const u32 end_page = static_cast<u32>(first + count);
  const u64 flags = in.varint();
  if (flags & ~(kWhole | kSerialLeftOut)) in.ok = false;
  r.whole = flags & kWhole;
  p.serial_left_out = flags & kSerialLeftOut;
  r.ram = in.changes(shape.frames, end_page, r.whole);
  if (in.varint() != shape.disk_blocks.size()) in.ok = false;
  for (const u64 blocks : shape.disk_blocks) r.disks.push_back(in.changes(blocks, end_page, r.whole));
  if (!in.ok || !in.in.empty() || pages_size != header.pages_size)
    return make_error("its data make no sense");
  return r;
}

}  // namespace deja
