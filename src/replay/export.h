// Takes out of a recording, by replaying it, what other programs read: network traffic, disks.
#pragma once

#include <filesystem>
#include <string>

#include "replay/replayer.h"

namespace deja {

// All frames in the format pcapng, with the host's date and, as a comment, step and virtual time. The date is
// exact at each progress mark (about once a second) and follows virtual time in between. Returns how many.
Result<u64> export_pcap(const std::filesystem::path& dir, const EngineOptions& engine,
                        const std::filesystem::path& out);

// A disk as it is now as a raw image, with holes where there are zeros.
Status write_disk(DiskOverlay& disk, const std::filesystem::path& out);

}  // namespace deja
