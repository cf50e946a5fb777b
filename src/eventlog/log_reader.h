// Reads an event log in order, also one that is still being written: at the end of what has been flushed
// next() returns nothing, and may return more when called again later.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/result.h"
#include "eventlog/event_codec.h"
#include "eventlog/events.h"

namespace deja {

class LogReader {
 public:
  // A recording's log (eventlog/recording_file.h).
  static Result<LogReader> open(const std::string& path);
  // The same for a descriptor that is open, which it takes over; `path` is for messages.
  static Result<LogReader> adopt(const std::string& path, int fd);
  LogReader(LogReader&&) noexcept;
  LogReader& operator=(LogReader&&) noexcept;
  ~LogReader();

  // The next event; nullopt at the end. An error names file, byte offset and frame, and stays.
  Result<std::optional<LogEvent>> next();
  // The same without taking it; nullptr at the end. Valid until the next call of a non-const function.
  Result<const LogEvent*> peek();

  // A place between two events, to come back to; also in another reader of the same file.
  struct Cursor {
    u64 offset = 0, frames = 0, chain = 0;  // before the frame
    CodecState codec;
    u32 events = 0;  // of the frame that lie before
  };
  Cursor cursor() const;
  Status seek(const Cursor& cursor);

  // How the log ends, once next() has returned nullopt.
  enum class Tail {
    ended,  // with an End event, and nothing after it
    open,   // after a whole frame, without End: being written, or its recorder was killed
    torn,   // with a part of a frame, which is ignored: likewise
  };
  Tail tail() const { return tail_; }

  // Position behind the frames read so far.
  u64 offset() const { return offset_; }
  u64 frames() const { return frames_; }
  u64 checksum() const { return chain_; }
  // Step of the last event taken from the log (peek included).
  Step last_step() const { return codec_.step; }

 private:
  LogReader(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  Result<bool> load_frame();  // false: no whole frame there
  Result<bool> zeros_to_end();
  Error damaged(u64 offset, const std::string& what) const;

  std::string path_;
  int fd_ = -1;
  CodecState codec_;
  std::string raw_;      // the current frame's events
  std::size_t pos_ = 0;  // in raw_
  Cursor frame_;         // before the current frame; `events` counts those taken from it
  std::optional<LogEvent> peeked_;
  std::optional<Error> error_;
  bool ended_ = false;  // End was seen
  Tail tail_ = Tail::open;
  u64 offset_ = 0, frames_ = 0, chain_ = 0;
};

}  // namespace deja
