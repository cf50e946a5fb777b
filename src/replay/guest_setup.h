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
  // Either firmware, or a kernel with or without an initrd.
  std::optional<LoadedFile> firmware;
  LoadedFile kernel;
  std::optional<LoadedFile> initrd;
  std::vector<DiskImage> drives;
  // The kernel was taken from the first drive: what its command line needs to find the root file system. Else
  // empty.
  std::string root_argument;
  // Why firmware was chosen where nobody asked for it: no kernel was found on the first drive. Else empty.
  std::string no_kernel;
};

// A disk image as it is asked for.
struct DriveFile {
  std::string path;
  std::string format;  // empty: found by looking
};

// What is to be started, by paths. An empty one is not there; without firmware and kernel, kernel and initrd
// are taken from the first drive.
struct BootFiles {
  std::string firmware, kernel, initrd;
  // Where to start from when no kernel is found on the first drive; empty: that is an error.
  std::string fallback_firmware;
};

// No guest has more RAM than this, so no file that is to be loaded into it can be larger.
inline constexpr u64 kMaxGuestFile = 16_GiB;

// Reads and opens what the user named.
Result<GuestFiles> read_guest_files(const BootFiles& boot, const std::vector<DriveFile>& drives);

// Everything that makes the machine what it is, besides the files.
struct GuestSetup {
  MachineSpec spec;
  i64 rtc_unix_seconds = 0;
  std::string rng_seed;               // raw bytes
  u32 behaviour = kMachineBehaviour;  // the version of what the guest sees (machine/behaviour.h)
};

// What a recording's machine was; to_manifest() is its reverse.
GuestSetup setup_of(const RecordingManifest& manifest);
void to_manifest(const GuestSetup& setup, RecordingManifest* manifest);

// MachineSpec::options
inline constexpr std::string_view kRebootOption = "reboot";               // "off" with --no-reboot
inline constexpr std::string_view kChaosOption = "chaos";                 // the seed of --chaos, decimal
inline constexpr std::string_view kGuestControlOption = "guest-control";  // "marks" or "off"
inline constexpr std::string_view kScreenOption = "screen";  // size of the framebuffer, "1024x768"

// "1024x768": within what the machine can show.
Result<ScreenSize> parse_screen_size(std::string_view text);

// `files` must outlive the machine. `behaviours`: the versions that the machine knows.
Result<MachineConfig> machine_config(const GuestSetup& setup, const GuestFiles& files,
                                     BehaviourRange behaviours = {});

}  // namespace deja
