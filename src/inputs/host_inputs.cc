#include "inputs/host_inputs.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/printable.h"
#include "inputs/console.h"
#include "inputs/serial_backend.h"
#include "inputs/signals.h"
#include "inputs/user_net.h"

namespace deja {
namespace {

constexpr u64 kDrainAtEndNs = 200'000'000;

std::string signal_name(int signal) {
  const char* abbreviation = ::sigabbrev_np(signal);
  return abbreviation ? show("SIG{}", abbreviation) : show("signal {}", signal);
}

}  // namespace

HostInputs::HostInputs(HostClock& clock) : clock_(clock) {}

Result<std::unique_ptr<HostInputs>> HostInputs::create(HostInputsConfig config, HostClock& clock) {
  std::unique_ptr<HostInputs> h(new HostInputs(clock));
  const auto uses_stdio = [](const SerialConfig& c) { return c.kind == SerialConfig::Kind::stdio; };
  if (std::count_if(config.serial.begin(), config.serial.end(), uses_stdio) > 1)
    return make_error(
        "serial stdio: only one serial port can have the terminal; give the others file:, unix: or none");
  if (config.catch_signals) {
    DEJA_ASSIGN(h->signals_, Signals::create());
  }
  if (config.monitor_socket) {
    DEJA_ASSIGN(h->monitor_, MonitorSocket::create(*config.monitor_socket));
  }
  if (config.nic.kind == NicConfig::Kind::user) {
    DEJA_ASSIGN(h->net_, make_user_net(config.nic, clock));
  }
  // The terminal goes raw last, when nothing can fail any more.
  for (const SerialConfig& c : config.serial) {
    std::unique_ptr<SerialBackend> backend;
    if (!uses_stdio(c)) {
      DEJA_ASSIGN(backend, make_serial_backend(c, h->signals_ ? h->signals_->fd() : -1));
    }
    h->serial_.push_back(std::move(backend));
  }
  for (auto& backend : h->serial_)
    if (!backend) backend = std::make_unique<Console>(config.stdin_fd, config.stdout_fd);
  return h;
}

HostInputs::~HostInputs() {
  for (auto& backend : serial_)
    if (backend) (void)backend->drain(kDrainAtEndNs);
}

void HostInputs::service(u64 timeout_ns) {
  PollSet set;
  if (signals_) set.add(signals_->fd(), POLLIN);
  if (monitor_) monitor_->add_to(set);
  for (const auto& backend : serial_) backend->add_to(set);
  if (net_) timeout_ns = std::min(timeout_ns, net_->add_to(set));
  set.wait(timeout_ns);

  if (signals_ && set.readable(signals_->fd())) {
    for (const int signal : signals_->take()) take_signal(signal);
  }
  if (monitor_) monitor_->service(set);
  for (const auto& backend : serial_) backend->service(set);
  if (net_) net_->service(set);
}

void HostInputs::take_signal(int signal) {
  switch (signal) {
    case SIGTSTP:
      suspend();
      ::kill(::getpid(), SIGSTOP);
      // Continued; the SIGCONT that did it is still to be read.
      break;
    case SIGCONT:
      resume();
      break;
    default:
      quit_.push_back(input::Quit{true, signal_name(signal)});
  }
}

void HostInputs::suspend() {
  for (const auto& backend : serial_) backend->suspend();
}

void HostInputs::resume() {
  for (const auto& backend : serial_) backend->resume();
}

bool HostInputs::input_waiting(InputRoom room) const {
  if (!quit_.empty() || (monitor_ && monitor_->has_line())) return true;
  for (std::size_t port = 0; port < serial_.size(); ++port)
    if (serial_[port]->input_waiting(port < room.serial.size() ? room.serial[port] : 0)) return true;
  return net_ && net_->waiting() && room.frames > 0;
}

std::vector<HostInput> HostInputs::poll(InputRoom room) {
  service(0);
  std::vector<HostInput> out(quit_.begin(), quit_.end());
  quit_.clear();
  for (std::size_t port = 0; port < serial_.size(); ++port)
    serial_[port]->take_input(static_cast<u8>(port), port < room.serial.size() ? room.serial[port] : 0,
                              actions_, out);
  if (net_)
    for (std::size_t n = 0; n < room.frames && net_->waiting(); ++n)
      out.push_back(input::NetFrame{0, net_->take()});
  if (monitor_) monitor_->run(actions_, out);
  return out;
}

bool HostInputs::wait_until(u64 deadline_ns, InputRoom room) {
  const bool was_backlogged = backlogged();
  while (true) {
    if (input_waiting(room) || (was_backlogged && !backlogged())) return true;
    u64 timeout = kNeverNs;
    if (deadline_ns != kNeverNs) {
      const u64 now = clock_.monotonic_ns();
      if (now >= deadline_ns) return false;
      timeout = deadline_ns - now;
    }
    service(timeout);
  }
}

void HostInputs::write(u8 port, std::string_view bytes) {
  if (port < serial_.size()) serial_[port]->write(bytes);
}

bool HostInputs::backlogged() const {
  return std::any_of(serial_.begin(), serial_.end(), [](const auto& b) { return b->backlogged(); });
}

Status HostInputs::drain(u64 timeout_ns) {
  for (std::size_t port = 0; port < serial_.size(); ++port) {
    if (Status s = serial_[port]->drain(timeout_ns); !s)
      return make_error("serial port {}: {}", port, s.error().message);
  }
  return {};
}

void HostInputs::send_frame(std::string_view frame) {
  if (net_) net_->send(frame);
}

void HostInputs::set_monitor_actions(MonitorActions actions) { actions_ = std::move(actions); }

void HostInputs::notify(std::string_view line) {
  for (const auto& backend : serial_)
    if (backend->notify(line)) return;
  std::fputs(show("deja: {}\n", line).c_str(), stderr);
}

}  // namespace deja
