#include "inputs/slirp_process.h"

#include <unistd.h>

#include <filesystem>
#include <optional>

#include "base/log.h"
#include "inputs/slirp_net.h"
#include "sandbox/sandbox.h"

namespace deja {
namespace {

constexpr std::string_view kStarted = "+";  // the first message; another is what went wrong

// The resolver's addresses, which libslirp reads again when they change.
FileAccess resolver_files() {
  constexpr const char* kFile = "/etc/resolv.conf";
  FileAccess files{.read = {kFile}};
  std::error_code ec;
  // Programs that keep it elsewhere replace it there.
  const std::filesystem::path directory = std::filesystem::weakly_canonical(kFile, ec).parent_path();
  if (!ec && directory != "/etc") files.read.push_back(directory);
  return files;
}

int serve(int socket, const NicConfig& config) {
  RealHostClock clock;
  auto net = SlirpNet::create(config, clock);
  if (!net) return send_message(socket, net.error().message), 1;
  if (!send_message(socket, kStarted)) return 1;
  HelperProcess::confine(Confined::network, resolver_files());
  std::optional<std::string> held;  // for the guest, when the socket is full
  while (true) {
    PollSet set;
    const u64 timeout = (*net)->add_to(set);
    set.add(socket, static_cast<short>(POLLIN | (held ? POLLOUT : 0)));
    set.wait(timeout);
    bool gone = false;
    if (set.readable(socket))
      while (const std::optional<Message> frame = receive_message(socket, false, &gone))
        (*net)->send(frame->bytes);
    if (gone) return 0;
    (*net)->service(set);
    while (held || (*net)->waiting()) {
      if (!held) held = (*net)->take();
      if (!send_message(socket, *held, -1, false)) break;
      held.reset();
    }
  }
}

}  // namespace

Result<std::unique_ptr<UserNet>> make_user_net(const NicConfig& config, HostClock& clock) {
  if (sandbox::enabled()) {
    DEJA_ASSIGN(std::unique_ptr<UserNet> net, SlirpProcess::create(config));
    return net;
  }
  DEJA_ASSIGN(std::unique_ptr<UserNet> net, SlirpNet::create(config, clock));
  return net;
}

Result<std::unique_ptr<SlirpProcess>> SlirpProcess::create(const NicConfig& config) {
  DEJA_ASSIGN(auto process,
              HelperProcess::start("deja-net", [&](int socket) { return serve(socket, config); }));
  const std::optional<Message> first = receive_message(process->socket());
  if (!first) return make_error("-nic user: the process for the network has ended");
  if (first->bytes != kStarted) return Error{first->bytes};
  return std::unique_ptr<SlirpProcess>(new SlirpProcess(std::move(process)));
}

void SlirpProcess::send(std::string_view frame) {
  if (out_.size() < kMostWaiting && !gone_) out_.emplace_back(frame);
  push();
}

void SlirpProcess::push() {
  while (!out_.empty() && send_message(process_->socket(), out_.front(), -1, false)) out_.pop_front();
}

std::string SlirpProcess::take() {
  std::string frame = std::move(in_.front());
  in_.pop_front();
  return frame;
}

u64 SlirpProcess::add_to(PollSet& set) {
  if (!gone_) set.add(process_->socket(), static_cast<short>(POLLIN | (out_.empty() ? 0 : POLLOUT)));
  return kNeverNs;
}

void SlirpProcess::service(const PollSet& set) {
  if (gone_) return;
  push();
  if (!set.readable(process_->socket())) return;
  while (std::optional<Message> frame = receive_message(process_->socket(), false, &gone_)) {
    if (frame->fd >= 0) ::close(frame->fd);
    if (in_.size() < kMostWaiting) in_.push_back(std::move(frame->bytes));
  }
  if (gone_)
    log_warn("net", "the process for the network has ended; the guest's network is silent from here on");
}

}  // namespace deja
