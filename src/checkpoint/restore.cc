#include "checkpoint/restore.h"

#include <algorithm>
#include <array>

namespace deja {
namespace {

// Hands each of `wanted` with its content to `use`: those of zeros, then the others by number.
Status read_each(const CheckpointReader& checkpoints, std::vector<FramePage> wanted,
                 const std::function<void(u32 frame, const u8* page)>& use) {
  static constexpr std::array<u8, kPageSize> kZeros{};
  std::erase_if(wanted, [&](const FramePage& p) {
    if (p.page == kZeroPage) use(p.frame, kZeros.data());
    return p.page == kZeroPage;
  });
  std::sort(wanted.begin(), wanted.end(),
            [](const FramePage& a, const FramePage& b) { return a.page < b.page; });
  std::vector<u32> numbers;
  for (const FramePage& p : wanted)
    if (numbers.empty() || numbers.back() != p.page) numbers.push_back(p.page);
  auto next = wanted.begin();
  DEJA_TRY(checkpoints.read_pages(numbers, [&](u32 number, const u8* page) {
    for (; next != wanted.end() && next->page == number; ++next) use(next->frame, page);
  }));
  DEJA_CHECK(next == wanted.end(), "frame {:#x} did not get page {}", next->frame, next->page);
  return {};
}

}  // namespace

MachineShape shape_of(Machine& machine) {
  MachineShape shape{machine.ram().frames(), {}};
  for (unsigned i = 0; i < machine.drive_count(); ++i)
    shape.disk_blocks.push_back(machine.drive(i).block_count());
  return shape;
}

Result<DiskOverlay::Snapshot> DiskHistory::disk_at(std::size_t checkpoint, unsigned drive) {
  const auto key = [](u32 block, u32 page) { return u64{block} << 32 | page; };
  auto& known_blocks = known_[drive];
  std::erase_if(known_blocks, [](const auto& entry) { return entry.second.expired(); });
  std::vector<DiskOverlay::NumberedBlock> blocks;
  std::vector<FramePage> missing;
  for (const FramePage& p : checkpoints_.disk(checkpoint, drive)) {
    const auto known = known_blocks.find(key(p.frame, p.page));
    if (DiskOverlay::SharedBlock block = known != known_blocks.end() ? known->second.lock() : nullptr)
      blocks.push_back({p.frame, std::move(block)});
    else
      missing.push_back(p);
  }
  std::unordered_map<u32, u32> page_of;
  for (const FramePage& p : missing) page_of[p.frame] = p.page;
  const DiskOverlay& disk = machine_.drive(drive);
  Status made;
  DEJA_TRY(read_each(checkpoints_, std::move(missing), [&](u32 block, const u8* bytes) {
    if (!made) return;
    Result<DiskOverlay::SharedBlock> shared = disk.make_block(block, bytes);
    if (!shared) {
      made = shared.error();
      return;
    }
    known_blocks[key(block, page_of[block])] = *shared;
    blocks.push_back({block, std::move(*shared)});
  }));
  if (!made) return made.error();
  return disk.snapshot_of(blocks);
}

Result<std::vector<DiskOverlay::Snapshot>> DiskHistory::disks_at(std::size_t checkpoint) {
  std::vector<DiskOverlay::Snapshot> disks;
  for (unsigned i = 0; i < machine_.drive_count(); ++i) {
    DEJA_ASSIGN(DiskOverlay::Snapshot disk, disk_at(checkpoint, i));
    disks.push_back(std::move(disk));
  }
  return disks;
}

Status restore_base_ram(GuestRam& ram, const CheckpointReader& checkpoints, std::size_t checkpoint) {
  const RamImage image = checkpoints.image(checkpoint);
  const auto address = [](u32 frame) { return Gpa(u64{frame} << kPageShift); };
  std::vector<FramePage> pages;
  for (u32 frame = 0; frame < image.size(); ++frame) {
    if (!ram.contains(address(frame))) continue;
    if (image[frame] == kPowerOnPage)
      return make_error("the base says nothing of page {:#x}", address(frame).value);
    // What is zero already, as most is, need not be touched.
    if (image[frame] != kZeroPage || !is_zero_page(ram.host(address(frame))))
      pages.push_back({frame, image[frame]});
  }
  return read_each(checkpoints, std::move(pages),
                   [&](u32 frame, const u8* page) { ram.write(address(frame), page, kPageSize); });
}

}  // namespace deja
