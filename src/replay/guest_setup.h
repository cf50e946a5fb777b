// From a machine's description, as a manifest holds it, and the files it names, to what Machine::create
// takes. Recording and replay both come through here, so that they build the same machine.
#pragma once

#include <optional>
#include <string>

#include "base/result.h"
#include "disk/disk_image.h"
#include "eventlog/manifest.h"
#include "machine/input_files.h"
#include "machine/machine.h"

namespace deja {

struct GuestFiles {
  LoadedFile kernel;
  std::optional<LoadedFile> initrd;
  std::vector<DiskImage> drives;
  // The kernel was taken from the first drive: what its command line needs to find the root file system. Else
  // empty.
  std::string root_argument;
};

// A disk image as it is asked for.
struct DriveFile {
  std::string path;
  std::string format;  // empty: found by looking
};

// Reads and opens what the user named. `initrd` empty: none; `kernel` empty: both are taken from the first
// drive.
Result<GuestFiles> read_guest_files(const std::string& kernel, const std::string& initrd,
                                    const std::vector<DriveFile>& drives);

// Everything that makes the machine what it is, besides the files.
struct GuestSetup {
  MachineSpec spec;
  i64 rtc_unix_seconds = 0;
  std::string rng_seed;  // raw bytes
};

inline constexpr std::string_view kRebootOption = "reboot";  // MachineSpec::options: "off" with --no-reboot

// `files` must outlive the machine.
Result<MachineConfig> machine_config(const GuestSetup& setup, const GuestFiles& files);

}  // namespace deja
