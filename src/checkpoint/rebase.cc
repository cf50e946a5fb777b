#include "checkpoint/rebase.h"

#include <algorithm>

namespace deja {
namespace {

using Sink = std::function<Status(std::string_view)>;

void renumber(std::vector<FramePage>& frames, const std::vector<u32>& new_numbers) {
  for (FramePage& f : frames)
    if (f.page >= kFirstStoredPage) f.page = new_numbers[f.page];
}

// What RAM and disks held at `checkpoint`, as a record of everything.
CheckpointRecord whole_record(const CheckpointReader& from, std::size_t checkpoint) {
  CheckpointRecord record;
  record.point = from.point(checkpoint);
  record.point.events = 0;
  record.point.serial.clear();
  record.point.serial_left_out = false;
  record.whole = true;
  const RamImage image = from.image(checkpoint);
  for (u32 frame = 0; frame < image.size(); ++frame)
    if (image[frame] != kPowerOnPage) record.ram.written.push_back({frame, image[frame]});  // else a hole
  for (unsigned i = 0; i < from.record(checkpoint).disks.size(); ++i)
    record.disks.push_back({from.disk(checkpoint, i), {}});
  return record;
}

// Calls `use` with every list of pages that a record has.
template <class Record, class Use>
void for_each_list(Record& record, Use use) {
  use(record.ram.written);
  use(record.ram.others);
  for (auto& disk : record.disks) {
    use(disk.written);
    use(disk.others);
  }
}

}  // namespace

Result<RebaseReport> rebase_checkpoints(const CheckpointReader& from, const RebaseRequest& request,
                                        const Sink& to) {
  const std::size_t count = from.size();
  DEJA_CHECK(request.base < count && from.is_unbroken(count - 1), "checkpoint {} of {}", request.base, count);
  const auto batches = from.batches(count - 1);
  const u32 end = batches.back().first + static_cast<u32>(batches.back().pages.size());
  // Contents from here on stand in records that are copied, the others move into the base.
  const u32 kept_from = request.base + 1 < count ? batches[request.base + 1].first : end;

  CheckpointRecord base = whole_record(from, request.base);
  std::vector<bool> needed(kept_from);
  const auto need = [&](const std::vector<FramePage>& frames) {
    for (const FramePage& f : frames)
      if (f.page < kept_from) needed[f.page] = true;
  };
  for_each_list(base, need);
  for (std::size_t i = request.base + 1; i < count; ++i) for_each_list(from.record(i), need);

  RebaseReport report;
  report.new_numbers.assign(end, 0);
  std::vector<u32> moved;
  for (const CheckpointReader::PageBatch& batch : batches.first(request.base + 1)) {
    for (u32 i = 0; i < batch.pages.size(); ++i) {
      const u32 number = batch.first + i;
      if (!needed[number]) continue;
      report.new_numbers[number] = report.next_number++;
      moved.push_back(number);
      base.new_pages.push_back(batch.pages[i]);
    }
  }
  for (u32 number = kept_from; number < end; ++number) report.new_numbers[number] = report.next_number++;

  for_each_list(base, [&](auto& frames) { renumber(frames, report.new_numbers); });
  DEJA_TRY(to(encode_checkpoint(base)));
  DEJA_TRY(from.copy_pages(moved, to));
  const u64 events_before = from.point(request.base).events;
  for (std::size_t i = request.base + 1; i < count; ++i) {
    CheckpointRecord record = from.record(i);
    record.point.events = record.point.events - events_before + request.opening_events;
    record.first_new = kFirstStoredPage + static_cast<u32>(moved.size()) + (batches[i].first - kept_from);
    record.new_pages = batches[i].pages;
    for_each_list(record, [&](auto& frames) { renumber(frames, report.new_numbers); });
    DEJA_TRY(to(encode_checkpoint(record)));
    DEJA_TRY(from.copy_batch(batches[i], to));
  }
  report.records = count - request.base;
  return report;
}

}  // namespace deja
