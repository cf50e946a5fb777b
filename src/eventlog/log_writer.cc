#include "eventlog/log_writer.h"

#include <algorithm>

#include "base/check.h"

namespace deja {

Result<std::unique_ptr<LogWriter>> LogWriter::create(std::unique_ptr<AppendFile> file, HostClock& clock,
                                                     Options options) {
  std::unique_ptr<LogWriter> w(new LogWriter(std::move(file), clock, options));
  const std::string header = make_file_header(&w->chain_);
  DEJA_TRY(w->file_->append(header));
  w->offset_ = header.size();
  return w;
}

Result<std::unique_ptr<LogWriter>> LogWriter::create(std::unique_ptr<AppendFile> file, HostClock& clock) {
  return create(std::move(file), clock, Options());
}

Status LogWriter::append(const LogEvent& event) {
  DEJA_CHECK(!closed_);
  if (raw_.empty() || raw_.back().size() >= options_.frame_bytes) raw_.emplace_back();
  encode_event(event, codec_, raw_.back());

  // A progress mark says how far a killed recording reaches, and takes the digests before it along.
  if (std::holds_alternative<event::Progress>(event.body) || std::holds_alternative<event::End>(event.body) ||
      raw_.back().size() >= options_.frame_bytes) {
    return flush();
  }
  const bool digest = std::holds_alternative<event::Digest>(event.body);
  const u64 wait = digest ? options_.digest_flush_ns : options_.flush_ns;
  flush_at_ns_ = std::min(flush_at_ns_, clock_.monotonic_ns() + wait);
  return {};
}

Status LogWriter::tick() {
  if (flush_at_ns_ == kNeverNs || clock_.monotonic_ns() < flush_at_ns_) return {};
  return flush();
}

Status LogWriter::flush() {
  while (!raw_.empty()) {
    if (cut_needed_) {
      DEJA_TRY(file_->truncate(offset_));
      cut_needed_ = false;
    }
    u64 checksum = 0;
    const std::string frame = make_frame(raw_.front(), chain_, &checksum);
    if (Status s = file_->append(frame); !s) {
      // Leave no half frame behind; if that fails too, do it before the next attempt.
      cut_needed_ = !file_->truncate(offset_).ok();
      return s;
    }
    offset_ += frame.size();
    chain_ = checksum;
    ++frames_;
    raw_.pop_front();
  }
  flush_at_ns_ = kNeverNs;
  return {};
}

Status LogWriter::sync() {
  DEJA_TRY(flush());
  return file_->sync();
}

Status LogWriter::close() {
  DEJA_TRY(sync());
  closed_ = true;
  return {};
}

}  // namespace deja
