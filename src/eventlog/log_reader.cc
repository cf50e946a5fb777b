#include "eventlog/log_reader.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/host_io.h"
#include "base/host_limits.h"
#include "eventlog/frame.h"
#include "eventlog/recording_file.h"

namespace deja {
namespace {

// Up to `size` bytes at `offset`; fewer at the end of the file.
Result<std::string> read_piece(int fd, const std::string& path, u64 offset, std::size_t size) {
  std::string out;
  if (const int error = read_at(fd, offset, size, &out))
    return make_error("{}: byte {}: cannot read: {}", path, offset + out.size(), host_error(error));
  return out;
}

}  // namespace

Result<LogReader> LogReader::open(const std::string& path) {
  DEJA_ASSIGN(const int fd, open_recording_file(path));
  return adopt(path, fd);
}

Result<LogReader> LogReader::adopt(const std::string& path, int fd) {
  LogReader reader(path, fd);
  DEJA_ASSIGN(const std::string header, read_piece(fd, path, 0, kFileHeaderSize));
  DEJA_TRY(check_file_header(header, path, &reader.chain_));
  reader.offset_ = kFileHeaderSize;
  reader.frame_ = {reader.offset_, 0, reader.chain_, {}, 0};
  return reader;
}

LogReader::LogReader(LogReader&& o) noexcept { *this = std::move(o); }

LogReader& LogReader::operator=(LogReader&& o) noexcept {
  if (this == &o) return *this;
  if (fd_ >= 0) ::close(fd_);
  path_ = std::move(o.path_);
  fd_ = std::exchange(o.fd_, -1);
  codec_ = o.codec_;
  raw_ = std::move(o.raw_);
  pos_ = o.pos_;
  frame_ = o.frame_;
  peeked_ = std::move(o.peeked_);
  error_ = std::move(o.error_);
  ended_ = o.ended_;
  tail_ = o.tail_;
  offset_ = o.offset_;
  frames_ = o.frames_;
  chain_ = o.chain_;
  return *this;
}

LogReader::~LogReader() {
  if (fd_ >= 0) ::close(fd_);
}

Error LogReader::damaged(u64 offset, const std::string& what) const {
  return make_error(
      "{}: byte {} (frame {}): {}; the file was changed after it was written, or its disk is failing. "
      "Restore it from a copy; the events up to step {} are intact",
      path_, offset, frames_, what, codec_.step);
}

// The rest of the file is zeros: what some file systems leave of a write that a crash of the host
// interrupted.
Result<bool> LogReader::zeros_to_end() {
  for (u64 at = offset_;;) {
    DEJA_ASSIGN(const std::string piece, read_piece(fd_, path_, at, 64 * 1024));
    if (piece.empty()) return true;
    if (std::any_of(piece.begin(), piece.end(), [](char c) { return c != 0; })) return false;
    at += piece.size();
  }
}

Result<bool> LogReader::load_frame() {
  DEJA_ASSIGN(const std::string head, read_piece(fd_, path_, offset_, kFrameHeaderSize));
  if (head.empty()) {
    tail_ = ended_ ? Tail::ended : Tail::open;
    return false;
  }
  if (ended_) return damaged(offset_, "there are bytes behind the End event");
  if (head.size() < kFrameHeaderSize) {
    tail_ = Tail::torn;
    return false;
  }
  auto header = parse_frame_header(head, chain_);
  if (!header) {
    DEJA_ASSIGN(const bool zeros, zeros_to_end());
    if (!zeros) return damaged(offset_, header.error().message);
    tail_ = Tail::torn;
    return false;
  }
  const std::size_t size = kFrameHeaderSize + header->payload_size;
  DEJA_ASSIGN(const std::string frame, read_piece(fd_, path_, offset_, size));
  if (frame.size() < size) {
    tail_ = Tail::torn;
    return false;
  }
  auto raw = open_frame(frame, *header, chain_);
  if (!raw) return damaged(offset_, raw.error().message);
  raw_ = std::move(raw).value();
  pos_ = 0;
  frame_ = {offset_, frames_, chain_, codec_, 0};
  chain_ = header->checksum;
  offset_ += size;
  ++frames_;
  return true;
}

Result<const LogEvent*> LogReader::peek() {
  if (error_) return *error_;
  if (!peeked_) {
    if (pos_ == raw_.size()) {
      auto loaded = load_frame();
      if (!loaded) {
        error_ = loaded.error();
        return *error_;
      }
      if (!*loaded) return static_cast<const LogEvent*>(nullptr);
    }
    std::string_view rest = std::string_view(raw_).substr(pos_);
    auto event = decode_event(rest, codec_);
    if (!event) {
      error_ = damaged(offset_, fmt::format("the frame before holds {}", event.error().message));
      return *error_;
    }
    pos_ = raw_.size() - rest.size();
    peeked_ = std::move(event).value();
    ended_ = std::holds_alternative<event::End>(peeked_->body);
    if (ended_ && pos_ != raw_.size()) {
      error_ = damaged(offset_, "the frame before goes on behind the End event");
      return *error_;
    }
  }
  return static_cast<const LogEvent*>(&*peeked_);
}

Result<std::optional<LogEvent>> LogReader::next() {
  DEJA_ASSIGN(const LogEvent* event, peek());
  if (!event) return std::optional<LogEvent>();
  std::optional<LogEvent> taken = std::move(peeked_);
  peeked_.reset();
  ++frame_.events;
  return taken;
}

LogReader::Cursor LogReader::cursor() const { return frame_; }

Status LogReader::seek(const Cursor& to) {
  offset_ = to.offset;
  frames_ = to.frames;
  chain_ = to.chain;
  codec_ = to.codec;
  frame_ = to;
  frame_.events = 0;
  raw_.clear();
  pos_ = 0;
  peeked_.reset();
  error_.reset();
  ended_ = false;
  tail_ = Tail::open;
  for (u32 i = 0; i < to.events; ++i) {
    DEJA_ASSIGN(const std::optional<LogEvent> event, next());
    if (!event) return make_error("{}: ends before byte {}, where it went on before", path_, offset_);
  }
  return {};
}

}  // namespace deja
