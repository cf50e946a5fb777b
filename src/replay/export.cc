#include "replay/export.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ext/stdio_filebuf.h>

#include <ostream>

#include "base/host_limits.h"
#include "disk/disk_image.h"
#include "replay/position.h"
#include "replay/survey.h"
#include "sandbox/outside_file.h"

namespace deja {

namespace fs = std::filesystem;

namespace {

// A file that is there only when it is whole.
class NewFile {
 public:
  explicit NewFile(fs::path path)
      : path_(std::move(path)),
        fd_(create_outside_file(path_, false)),
        file_(fd_, std::ios::out | std::ios::binary),
        out_(&file_) {}
  ~NewFile() {
    if (!kept_) remove_outside_file(path_);
  }
  std::ostream& stream() { return out_; }
  Status check() const {
    return fd_ >= 0 && out_ ? Status()
                            : make_error("{}: cannot write: {}", path_.string(), host_error(errno));
  }
  Status keep(u64 size) {
    out_.flush();
    DEJA_TRY(check());
    if (size && ::ftruncate(fd_, static_cast<off_t>(size)) != 0)
      return make_error("{}: cannot write: {}", path_.string(), host_error(errno));
    kept_ = true;
    return {};
  }

 private:
  fs::path path_;
  int fd_;
  __gnu_cxx::stdio_filebuf<char> file_;  // closes it
  std::ostream out_;
  bool kept_ = false;
};

// pcapng (IETF draft-ietf-opsawg-pcapng): one section, one Ethernet interface with times in nanoseconds.
class PcapWriter {
 public:
  enum class Direction : u32 { received = 1, sent = 2 };

  explicit PcapWriter(std::ostream& out) : out_(out) {
    std::string section;
    put(section, u32{0x1a2b3c4d});
    put(section, u16{1}), put(section, u16{0});
    put(section, ~u64{0});  // length of the section: not given
    block(0x0a0d0d0a, section);
    std::string interface;
    put(interface, u16{1}), put(interface, u16{0});  // Ethernet
    put(interface, u32{0});                          // no limit on a frame's length
    option(interface, 9, std::string(1, '\x09'));    // if_tsresol: 10^-9
    option(interface, 0, "");
    block(1, interface);
  }
  void frame(std::string_view bytes, u64 unix_ns, Direction direction, const std::string& comment) {
    std::string body;
    put(body, u32{0});
    put(body, static_cast<u32>(unix_ns >> 32)), put(body, static_cast<u32>(unix_ns));
    put(body, static_cast<u32>(bytes.size())), put(body, static_cast<u32>(bytes.size()));
    padded(body, bytes);
    option(body, 1, comment);
    std::string flags;
    put(flags, static_cast<u32>(direction));
    option(body, 2, flags);
    option(body, 0, "");
    block(6, body);
  }

 private:
  template <class T>
  static void put(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  static void padded(std::string& out, std::string_view bytes) {
    out += bytes;
    out.append(-bytes.size() % 4, '\0');
  }
  static void option(std::string& out, u16 code, std::string_view value) {
    put(out, code), put(out, static_cast<u16>(value.size()));
    padded(out, value);
  }
  void block(u32 type, const std::string& body) {
    std::string whole;
    const u32 size = static_cast<u32>(body.size() + 12);
    put(whole, type), put(whole, size);
    whole += body;
    put(whole, size);
    out_.write(whole.data(), static_cast<std::streamsize>(whole.size()));
  }
  std::ostream& out_;
};

Error diverged(const Replayer& replayer) {
  const Divergence& d = *replayer.divergence();
  return make_error("at step {} the replay is not what was recorded: {}; `deja verify` tells more",
                    format_count(d.step), d.reason);
}

}  // namespace

Result<u64> export_pcap(const fs::path& dir, const EngineOptions& engine, const fs::path& out) {
  DEJA_ASSIGN(Recording whole, Recording::open(dir));
  DEJA_TRY(require_sound(dir, steps_on_record(whole.manifest, survey_log(whole))));
  DEJA_ASSIGN(Recording recording, Recording::reopen(dir, whole.manifest));
  if (recording.manifest.machine.nic_mac.empty())
    return make_error("{}: the machine had no network card (--nic)", dir.string());
  NewFile file(out);
  DEJA_TRY(file.check());
  PcapWriter pcap(file.stream());
  u64 frames = 0;

  // The date: of the last mark that told it, plus the virtual time since.
  i64 wall_base = 0;  // date less host time since the start
  i64 anchor_wall = 0, last_wall = 0;
  VtimeNs anchor_virtual = 0;
  u64 host_ns = 0;
  std::unique_ptr<Replayer> replayer;
  const auto write = [&](std::string_view bytes, PcapWriter::Direction direction) {
    const Clock& clock = replayer->machine().clock();
    // Where virtual time ran ahead of the host's, a mark sets the date back: frames stay in order.
    last_wall = std::max(last_wall, anchor_wall + static_cast<i64>(clock.now() - anchor_virtual));
    pcap.frame(bytes, static_cast<u64>(last_wall), direction,
               fmt::format("step {}, virtual time {}.{:09} s", clock.steps, clock.now() / 1'000'000'000,
                           clock.now() % 1'000'000'000));
    ++frames;
  };
  Replayer::Hooks hooks;
  hooks.frame = [&](std::string_view bytes) { write(bytes, PcapWriter::Direction::sent); };
  DEJA_ASSIGN(replayer, Replayer::open(dir, engine, std::move(hooks)));
  while (true) {
    DEJA_ASSIGN(const std::optional<LogEvent> event, recording.log.next());
    if (!event) break;
    DEJA_ASSIGN(const Replayer::Stop stop, replayer->run_to(event->step));
    if (stop == Replayer::Stop::diverged) return diverged(*replayer);
    if (const auto* frame = std::get_if<input::NetFrame>(&event->body)) {
      write(frame->bytes, PcapWriter::Direction::received);
      continue;
    }
    if (const auto* wall = std::get_if<event::WallClock>(&event->body)) {
      wall_base = wall->unix_ns - static_cast<i64>(host_ns);
    } else if (const auto* progress = std::get_if<event::Progress>(&event->body)) {
      host_ns = progress->host_ns;
    } else {
      continue;
    }
    anchor_wall = wall_base + static_cast<i64>(host_ns);
    anchor_virtual = replayer->machine().clock().now();
  }
  DEJA_TRY(file.keep(0));
  return frames;
}

Status write_disk(DiskOverlay& disk, const fs::path& out) {
  DEJA_TRY(check_raw_name([&](u64 at, std::span<u8> bytes) { return disk.read(at, bytes); }, disk.size(),
                          out.string()));
  NewFile file(out);
  DEJA_TRY(file.check());
  std::vector<u8> piece(1_MiB);
  for (u64 offset = 0; offset < disk.size(); offset += piece.size()) {
    piece.resize(std::min<u64>(1_MiB, disk.size() - offset));
    DEJA_TRY(disk.read(offset, piece));
    if (std::all_of(piece.begin(), piece.end(), [](u8 b) { return b == 0; })) continue;
    file.stream().seekp(static_cast<std::streamoff>(offset));
    file.stream().write(reinterpret_cast<const char*>(piece.data()),
                        static_cast<std::streamsize>(piece.size()));
    DEJA_TRY(file.check());
  }
  return file.keep(disk.size());
}

}  // namespace deja
