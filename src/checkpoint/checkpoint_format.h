// Checkpoints on disk: `checkpoints.dat` of a recording, described in docs/recording-format.md. A checkpoint
// is the whole machine at one step. RAM and what was written to disks, in blocks as large as pages, is what
// differs from the checkpoint before; each content of a page stands in the file once, whichever pages, blocks
// and checkpoints have it.
//
//   file header  "DEJACKPT"  u32 version  u32 zero  u64 recording  u64 check
//   record       record header, meta (zstd), pages
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "machine/machine.h"

namespace deja {

inline constexpr u32 kCheckpointVersion = 3;
inline constexpr std::size_t kCheckpointFileHeaderSize = 32;
inline constexpr std::size_t kRecordHeaderSize = 40;
inline constexpr u64 kMaxMetaBytes = 256_MiB;  // unpacked: 16 GiB of RAM, every page changed, take 100 MiB

// XXH3-128 of a page's content.
struct PageKey {
  u64 low = 0, high = 0;
  auto operator<=>(const PageKey&) const = default;
};
PageKey page_key(const u8* page);

// Contents of pages are numbered; these two need no place in the file.
inline constexpr u32 kPowerOnPage = 0;  // what stood there at power-on: loaded into RAM, or the disk's image
inline constexpr u32 kZeroPage = 1;
inline constexpr u32 kFirstStoredPage = 2;
inline constexpr u32 kMaxPages = u32{1} << 31;  // numbers from here on are not used in files

struct FramePage {
  u32 frame = 0;  // of RAM; or a disk's block
  u32 page = 0;
  bool operator==(const FramePage&) const = default;
};

struct StoredPage {
  PageKey key;
  u16 size = 0;  // in the file: kPageSize, as it is; less, packed with zstd
  bool operator==(const StoredPage&) const = default;
};

// How large a machine is: what lies beyond is damage.
struct MachineShape {
  u64 frames = 0;                // of RAM, the hole below 4 GiB included
  std::vector<u64> disk_blocks;  // by drive
};

// Where the machine was, but for its RAM.
struct CheckpointPoint {
  // The disks are there for the writer; a reader tells what they held by CheckpointReader::disk.
  MachineState machine;
  Step step = 0;
  VtimeNs vtime = 0;
  u64 events = 0;      // of the event log that lie before it
  u64 warps = 0;       // and this many sleeps
  u64 deliveries = 0;  // of exceptions and interrupts
  std::string serial;  // what the guest sent on COM1 since the checkpoint before, or power-on
  // It sent more than kMostSerialText, and none of it is here: who wants it replays.
  bool serial_left_out = false;
};

// A guest can send some megabytes a second, which must not become the host's disk's and memory's.
inline constexpr std::size_t kMostSerialText = 64 * 1024;
// Adds what was sent to `text`, which is too long once it has more than kMostSerialText bytes, and then grows
// no more.
inline void add_serial_text(std::string& text, std::string_view sent) {
  if (text.size() <= kMostSerialText) text += sent.substr(0, kMostSerialText + 1 - text.size());
}

// What RAM or a disk held, by what became of it since the checkpoint before.
struct PageChanges {
  std::vector<FramePage> written;  // every frame written since the checkpoint before; by frame
  std::vector<FramePage> others;   // of a whole record: every other one that is not as it was at power-on
};

struct CheckpointRecord {
  CheckpointPoint point;
  u32 first_new = kFirstStoredPage;  // number of new_pages[0]
  std::vector<StoredPage> new_pages;
  bool whole = false;  // it does not need those before it, but for their pages
  PageChanges ram;
  std::vector<PageChanges> disks;  // by drive
};

struct RecordHeader {
  u64 meta_size = 0;   // bytes in the file
  u64 pages_size = 0;  // bytes behind them
  u64 meta_checksum = 0;
};

// `recording` tells recordings apart: checkpoints of another one are of no use.
std::string make_checkpoint_file_header(u64 recording);
Result<u64> parse_checkpoint_file_header(std::string_view bytes);

// Record header and meta, to be followed by the pages.
std::string encode_checkpoint(const CheckpointRecord& record);
Result<RecordHeader> parse_record_header(std::string_view bytes);
// Errors say what is wrong, not where.
Result<CheckpointRecord> decode_checkpoint(std::string_view meta, const RecordHeader& header,
                                           const MachineShape& shape);

}  // namespace deja
