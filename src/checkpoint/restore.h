// From a checkpoint in a file back to a machine.
#pragma once

#include <unordered_map>
#include <vector>

#include "checkpoint/checkpoint_reader.h"

namespace deja {

MachineShape shape_of(Machine& machine);

// Makes the snapshots of a machine's disks that checkpoints describe. Blocks that are in use anywhere, in the
// machine or in a snapshot, are not read again.
class DiskHistory {
 public:
  // Both outlive it.
  DiskHistory(Machine& machine, const CheckpointReader& checkpoints)
      : machine_(machine), checkpoints_(checkpoints), known_(machine.drive_count()) {}

  // By drive. An error: a block is damaged or missing.
  Result<std::vector<DiskOverlay::Snapshot>> disks_at(std::size_t checkpoint);

 private:
  Result<DiskOverlay::Snapshot> disk_at(std::size_t checkpoint, unsigned drive);

  Machine& machine_;
  const CheckpointReader& checkpoints_;
  // By drive; then by block and the number of its content.
  std::vector<std::unordered_map<u64, std::weak_ptr<const StoredBlock>>> known_;
};

// Puts all of RAM back, and only RAM, from a checkpoint that does not lean on power-on: the base of a
// recording.
Status restore_base_ram(GuestRam& ram, const CheckpointReader& checkpoints, std::size_t checkpoint);

}  // namespace deja
