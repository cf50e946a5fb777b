#include "inputs/serial_backend.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/host_limits.h"
#include "base/log.h"
#include "inputs/output_stream.h"
#include "inputs/unix_socket.h"

namespace deja {

void LineInput::add_bytes(std::string_view bytes) {
  if (bytes.empty()) return;
  bytes_ += bytes.size();
  if (!queue_.empty()) {
    if (auto* last = std::get_if<input::SerialBytes>(&queue_.back())) {
      last->bytes += bytes;
      return;
    }
  }
  queue_.push_back(input::SerialBytes{0, std::string(bytes)});
}

// A BREAK takes a place in the receiver like a byte does (16550: a zero byte with the BI flag).
bool LineInput::waiting(std::size_t room) const { return room > 0 && !queue_.empty(); }

void LineInput::take(u8 port, std::size_t room, std::vector<HostInput>& out) {
  while (room > 0 && !queue_.empty()) {
    auto* front = std::get_if<input::SerialBytes>(&queue_.front());
    if (!front) {
      out.push_back(input::SerialBreak{port});
      queue_.pop_front();
      --room;
      continue;
    }
    const std::size_t n = std::min(room, front->bytes.size());
    out.push_back(input::SerialBytes{port, front->bytes.substr(0, n)});
    bytes_ -= n;
    room -= n;
    front->bytes.erase(0, n);
    if (front->bytes.empty()) queue_.pop_front();
  }
}

namespace {

class NoSerial : public SerialBackend {
 public:
  void write(std::string_view) override {}
};

class FileSerial : public SerialBackend {
 public:
  FileSerial(int fd, const std::string& path) : out_(fd, true, path) {}
  void add_to(PollSet& set) const override { out_.add_to(set); }
  void service(const PollSet&) override { out_.push(); }
  void write(std::string_view bytes) override { out_.write(bytes); }
  bool backlogged() const override { return out_.backlogged(); }
  Status drain(u64 timeout_ns) override { return out_.drain(timeout_ns); }

 private:
  OutputStream out_;
};

// One client at a time; the next one is accepted when it has gone. Without a client output is lost, as on a
// cable with nothing plugged in.
class SocketSerial : public SerialBackend {
 public:
  explicit SocketSerial(ListeningSocket socket) : socket_(std::move(socket)) {}

  Status wait_for_client(int interrupt_fd) {
    while (client_ < 0) {
      PollSet set;
      set.add(socket_.fd(), POLLIN);
      if (interrupt_fd >= 0) set.add(interrupt_fd, POLLIN);
      set.wait(kNeverNs);
      if (interrupt_fd >= 0 && set.readable(interrupt_fd))
        return make_error("interrupted while waiting for a client on the serial line's socket");
      service(set);
    }
    return {};
  }

  void add_to(PollSet& set) const override {
    if (client_ < 0) {
      set.add(socket_.fd(), POLLIN);
      return;
    }
    if (!input_.full()) set.add(client_, POLLIN);
    out_->add_to(set);
  }

  void service(const PollSet& set) override {
    if (client_ < 0) {
      if (!set.readable(socket_.fd())) return;
      client_ = socket_.accept();
      if (client_ >= 0) out_ = std::make_unique<OutputStream>(client_, true, "serial line's client");
      return;
    }
    char buffer[4096];
    bool gone = false;
    while (!gone && !input_.full() && set.readable(client_)) {
      const ssize_t n = ::recv(client_, buffer, sizeof buffer, MSG_DONTWAIT);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
      gone = n <= 0;
      if (!gone) input_.add_bytes(std::string_view(buffer, static_cast<std::size_t>(n)));
    }
    if (!gone) out_->push();
    if (gone || out_->dead()) hang_up();
  }

  bool input_waiting(std::size_t room) const override { return input_.waiting(room); }
  void take_input(u8 port, std::size_t room, const MonitorActions&, std::vector<HostInput>& out) override {
    input_.take(port, room, out);
  }
  void write(std::string_view bytes) override {
    if (!out_) return;
    out_->write(bytes);
    if (out_->dead()) hang_up();
  }
  bool backlogged() const override { return out_ && out_->backlogged(); }
  Status drain(u64 timeout_ns) override {
    if (!out_) return {};
    Status s = out_->drain(timeout_ns);
    if (!out_->dead()) return s;
    // A client that leaves is nothing out of the ordinary.
    hang_up();
    return {};
  }

 private:
  void hang_up() {
    out_.reset();  // closes the connection
    client_ = -1;
  }

  ListeningSocket socket_;
  int client_ = -1;
  std::unique_ptr<OutputStream> out_;
  LineInput input_;
};

}  // namespace

Result<std::unique_ptr<SerialBackend>> make_serial_backend(const SerialConfig& config, int interrupt_fd) {
  switch (config.kind) {
    case SerialConfig::Kind::none:
      return std::unique_ptr<SerialBackend>(new NoSerial);
    case SerialConfig::Kind::file: {
      const int fd =
          ::open(config.path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0666);
      if (fd < 0) return make_error("serial file:{}: cannot open: {}", config.path, host_error(errno));
      return std::unique_ptr<SerialBackend>(new FileSerial(fd, config.path));
    }
    case SerialConfig::Kind::unix_socket: {
      auto socket = ListeningSocket::create(config.path);
      if (!socket) return make_error("serial unix:{}", socket.error().message);
      auto backend = std::make_unique<SocketSerial>(std::move(socket).value());
      if (config.wait) {
        log_warn("serial", "waiting for a client on unix:{}", config.path);
        DEJA_TRY(backend->wait_for_client(interrupt_fd));
      }
      return std::unique_ptr<SerialBackend>(std::move(backend));
    }
    case SerialConfig::Kind::stdio:
      break;
  }
  DEJA_UNREACHABLE("stdio is made in console.cc");
}

}  // namespace deja
