// manifest.json of a recording: what machine ran, with which inputs, recorded by what, and how it ended.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "eventlog/events.h"
#include "eventlog/host_info.h"

namespace deja {

inline constexpr u32 kRecordingFormatVersion = 5;

// A file that the machine was built from.
struct RecordedFile {
  std::string role;           // "kernel", "initrd", "drive0"…
  std::string original_path;  // absolute, as it was when recorded; for people, and for references
  std::string sha256;         // 64 lower-case hexadecimal digits; of a drive empty until it is known
  u64 size = 0;               // bytes
  std::string stored;         // "sha256-<hex>" under inputs/; empty: only referenced by original_path
  std::string identity;       // of a drive: HostFile::identity() when recorded; of others empty
  bool operator==(const RecordedFile&) const = default;
};

// A virtio disk; what it holds is the input with the role "drive" and its number.
struct DriveSpec {
  std::string format;  // "raw", "qcow2", "vmdk", "vdi"
  bool read_only = false;
  std::string serial;
  u32 logical_block_size = 512, physical_block_size = 512;  // bytes
  bool operator==(const DriveSpec&) const = default;
};

// The machine's configuration, all of it guest-visible.
struct MachineSpec {
  u64 ram_bytes = 0;
  u32 vcpus = 1;
  std::string cpu_model;   // e.g. "x86-64-v3"
  u32 clock_rate_num = 1;  // nanoseconds per step = num / den
  u32 clock_rate_den = 1;
  u64 quantum_steps = 0;  // steps that a vCPU runs before the next one's turn
  std::string boot_mode;  // "vmlinux", "bzimage", "multiboot"…
  std::string cmdline;
  std::vector<std::string> serial;  // by port, canonical --serial spelling; the console's is last
  std::vector<DriveSpec> drives;
  std::string nic_mac;                         // of the virtio network card; empty: there is none
  bool console = false;                        // there is a virtio console
  std::map<std::string, std::string> options;  // further ones by name, e.g. "isa-debug-exit" = "0xf4"
  bool operator==(const MachineSpec&) const = default;
};

// Totals, known once a recording has ended.
struct EndInfo {
  event::End end;
  Step final_step = 0;
  u64 instructions = 0;
  u64 virtual_ns = 0;
  u64 host_ns = 0;  // host time that the recording took, pauses included
  u64 digests = 0;  // filled in by RecordingWriter::finish, as all that follow
  u64 log_bytes = 0;
  u64 log_frames = 0;
  u64 log_checksum = 0;  // of the last frame
  bool operator==(const EndInfo&) const = default;
};

// What a recording branched off from (`deja live`). Its log begins with the parent's, up to `step`, so the
// parent is not needed to replay it.
struct ParentInfo {
  std::string name;  // of the parent's directory, as it was; for people
  i64 created_unix_ns = 0;
  Step step = 0;
  bool operator==(const ParentInfo&) const = default;
};

// A recording that does not begin at power-on: its first checkpoint is what it begins with (`deja trim`).
struct BaseInfo {
  Step step = 0;
  u64 virtual_ns = 0;    // since power-on, at that step
  u64 instructions = 0;  // likewise
  std::string origin;    // the recording that it was cut from, for people; empty: none
  i64 origin_created_unix_ns = 0;
  bool operator==(const BaseInfo&) const = default;
};

// A recording that is bounded to its last stretch (`deja record --keep`): its beginning, a base, moves on
// while it is made. Each time the log and the checkpoints get new files, named by a number.
struct WindowInfo {
  u64 keep_ns = 0;  // host time that it holds at least
  u32 number = 0;   // of its files; 0: still the first ones, without a number
  bool operator==(const WindowInfo&) const = default;
};

struct RecordingManifest {
  u32 format_version = kRecordingFormatVersion;
  u32 machine_version = 0;  // version of the guest-visible behaviour (docs/determinism.md, rule 7)
  std::string build;        // of the recorder
  i64 created_unix_ns = 0;
  u32 recorder_pid = 0;
  HostInfo host;
  MachineSpec machine;
  std::vector<RecordedFile> inputs;
  i64 rtc_base_unix_seconds = 0;     // the date that the RTC shows at power-on
  std::string rng_seed;              // raw bytes, at most 4096; hexadecimal in the file
  std::optional<ParentInfo> parent;  // absent: it did not go on from another recording
  std::optional<BaseInfo> base;      // absent: the recording begins at power-on
  std::optional<WindowInfo> window;  // absent: the recording holds all since it began
  std::optional<EndInfo> end;        // absent: still running, or its recorder was killed
  bool operator==(const RecordingManifest&) const = default;
};

// Where in its directory a recording has its log and its checkpoints.
std::string events_file(const RecordingManifest& manifest);
std::string checkpoints_file(const RecordingManifest& manifest);
// Is `name` what one of the two may say, of some recording?
bool is_events_file(std::string_view name);
bool is_checkpoints_file(std::string_view name);

// The first step that a recording has: 0, or that of its base.
inline Step first_step(const RecordingManifest& manifest) { return manifest.base ? manifest.base->step : 0; }

// The file's text: indented JSON whose last member is a checksum of all before it.
std::string to_json(const RecordingManifest& manifest);
// `where` names the file in messages. Refuses newer formats, unknown, missing and out-of-range members, and
// any change since the file was written. Does not judge machine_version.
Result<RecordingManifest> parse_manifest(std::string_view text, const std::string& where);

// "2026-11-22 15:30:12 UTC"
std::string format_date(i64 unix_ns);

}  // namespace deja
