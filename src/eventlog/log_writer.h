// Writes the event log: events are grouped into frames; a frame is written (one write(2)) when input has
// waited for 200 ms, when a progress mark is appended, when enough has gathered, and on demand.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "eventlog/append_file.h"
#include "eventlog/event_codec.h"
#include "eventlog/events.h"
#include "eventlog/frame.h"
#include "inputs/host_clock.h"

namespace deja {

class LogWriter {
 public:
  struct Options {
    u64 flush_ns = 200'000'000;  // an event that is not in the kernel's hands waits at most this long…
    u64 digest_flush_ns = 1'500'000'000;  // …but a digest alone waits for the next progress mark
    std::size_t frame_bytes = 64 * 1024;  // gather at most about this much (before compression)
  };

  // Writes the file header. `clock` outlives the writer.
  static Result<std::unique_ptr<LogWriter>> create(std::unique_ptr<AppendFile> file, HostClock& clock);
  static Result<std::unique_ptr<LogWriter>> create(std::unique_ptr<AppendFile> file, HostClock& clock,
                                                   Options options);

  // Steps must not decrease. The event is taken in any case. An error (disk full…) means that events are held
  // in memory only: pause the machine, and call flush() again when the disk may have room. Frames written
  // before are not affected.
  Status append(const LogEvent& event);
  // To be called about every millisecond: flushes what has waited long enough.
  Status tick();
  Status flush();
  // flush(), and on to the disk.
  Status sync();
  // The same. Nothing may be appended afterwards.
  Status close();

  u64 bytes_written() const { return offset_; }  // size of the file
  u64 frames_written() const { return frames_; }
  u64 checksum() const { return chain_; }  // of the last frame; covers the whole log
  bool pending() const { return !raw_.empty(); }
  Step last_step() const { return codec_.step; }  // of the last event appended

 private:
  LogWriter(std::unique_ptr<AppendFile> file, HostClock& clock, Options options)
      : file_(std::move(file)), clock_(clock), options_(options) {}

  std::unique_ptr<AppendFile> file_;
  HostClock& clock_;
  Options options_;
  CodecState codec_;
  std::deque<std::string> raw_;  // events encoded and not yet written; each becomes a frame
  u64 flush_at_ns_ = kNeverNs;
  u64 offset_ = 0;  // end of the last complete frame
  u64 frames_ = 0;
  u64 chain_ = 0;
  bool cut_needed_ = false;  // a refused frame may have left bytes behind offset_
  bool closed_ = false;
};

}  // namespace deja
