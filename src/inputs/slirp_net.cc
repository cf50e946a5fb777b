#include "inputs/slirp_net.h"

#include <arpa/inet.h>
#include <slirp/libslirp.h>

#include <algorithm>
#include <cerrno>

#include "base/check.h"
#include "base/host_limits.h"
#include "base/log.h"

namespace deja {
namespace {

constexpr u64 kMillisecond = 1'000'000;

short to_poll(int events) {
  short out = 0;
  if (events & SLIRP_POLL_IN) out |= POLLIN;
  if (events & SLIRP_POLL_OUT) out |= POLLOUT;
  if (events & SLIRP_POLL_PRI) out |= POLLPRI;
  return out;
}

int from_poll(short events) {
  int out = 0;
  if (events & POLLIN) out |= SLIRP_POLL_IN;
  if (events & POLLOUT) out |= SLIRP_POLL_OUT;
  if (events & POLLPRI) out |= SLIRP_POLL_PRI;
  if (events & POLLERR) out |= SLIRP_POLL_ERR;
  if (events & POLLHUP) out |= SLIRP_POLL_HUP;
  return out;
}

// The address of one end of a forwarded port; `text` is one, or empty.
sockaddr_storage end_of(bool ipv6, const std::string& text, const char* otherwise, unsigned port) {
  sockaddr_storage out{};
  const char* const address = text.empty() ? otherwise : text.c_str();
  int parsed;
  if (ipv6) {
    auto& to = reinterpret_cast<sockaddr_in6&>(out);
    to.sin6_family = AF_INET6;
    to.sin6_port = htons(static_cast<u16>(port));
    parsed = inet_pton(AF_INET6, address, &to.sin6_addr);
  } else {
    auto& to = reinterpret_cast<sockaddr_in&>(out);
    to.sin_family = AF_INET;
    to.sin_port = htons(static_cast<u16>(port));
    parsed = inet_pton(AF_INET, address, &to.sin_addr);
  }
  DEJA_CHECK(parsed == 1, "address '{}'", address);
  return out;
}

// An unspecified address of the guest is for libslirp to find out.
Status add_forward(::Slirp* slirp, const HostForward& f) {
  const sockaddr_storage host = end_of(f.ipv6, f.host_address, f.ipv6 ? "::1" : "127.0.0.1", f.host_port);
  const sockaddr_storage guest = end_of(f.ipv6, f.guest_address, f.ipv6 ? "::" : "0.0.0.0", f.guest_port);
  const socklen_t size = f.ipv6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
  const int flags = (f.udp ? SLIRP_HOSTFWD_UDP : 0) | (f.ipv6 ? SLIRP_HOSTFWD_V6ONLY : 0);
  if (slirp_add_hostxfwd(slirp, reinterpret_cast<const sockaddr*>(&host), size,
                         reinterpret_cast<const sockaddr*>(&guest), size, flags) == 0)
    return {};
  const int error = errno;
  return make_error("-nic hostfwd: cannot listen on {} port {} of the host: {}{}", f.udp ? "UDP" : "TCP",
                    f.host_port, host_error(error),
                    error == EADDRINUSE ? "; another program has it, choose another port" : "");
}

}  // namespace

struct SlirpNet::Timer {
  SlirpTimerCb callback;
  void* opaque;
  u64 due_ns = kNeverNs;  // of the host's monotonic clock
};

struct SlirpNet::Callbacks {
  static SlirpNet& self(void* opaque) { return *static_cast<SlirpNet*>(opaque); }

  static ssize_t send_packet(const void* data, size_t size, void* opaque) {
    auto& frames = self(opaque).frames_;
    if (frames.size() < UserNet::kMostWaiting) frames.emplace_back(static_cast<const char*>(data), size);
    return static_cast<ssize_t>(size);
  }
  static void guest_error(const char* message, void*) { log_info("net", "the guest: {}", message); }
  static int64_t clock_get_ns(void* opaque) {
    return static_cast<int64_t>(self(opaque).clock_.monotonic_ns());
  }
  static void* timer_new(SlirpTimerCb callback, void* callback_opaque, void* opaque) {
    auto& timers = self(opaque).timers_;
    timers.push_back(std::make_unique<Timer>(Timer{callback, callback_opaque}));
    return timers.back().get();
  }
  static void timer_free(void* timer, void* opaque) {
    std::erase_if(self(opaque).timers_, [&](const auto& t) { return t.get() == timer; });
  }
  static void timer_mod(void* timer, int64_t expire_ms, void*) {
    static_cast<Timer*>(timer)->due_ns = static_cast<u64>(std::max<int64_t>(expire_ms, 0)) * kMillisecond;
  }
  // Descriptors are asked for before each poll(2).
  static void ignore_fd(int, void*) {}
  static void notify(void*) {}

  static int add_poll(int fd, int events, void* opaque) {
    self(opaque).polled_->add(fd, to_poll(events));
    return fd;
  }
  struct Ready {
    const PollSet& set;
  };
  static int get_revents(int fd, void* opaque) {
    return from_poll(static_cast<Ready*>(opaque)->set.events(fd));
  }
};

Result<std::unique_ptr<SlirpNet>> SlirpNet::create(const NicConfig& config, HostClock& clock) {
  static constexpr SlirpCb kCallbacks{
      .send_packet = Callbacks::send_packet,
      .guest_error = Callbacks::guest_error,
      .clock_get_ns = Callbacks::clock_get_ns,
      .timer_new = Callbacks::timer_new,
      .timer_free = Callbacks::timer_free,
      .timer_mod = Callbacks::timer_mod,
      .register_poll_fd = Callbacks::ignore_fd,
      .unregister_poll_fd = Callbacks::ignore_fd,
      .notify = Callbacks::notify,
  };
  std::unique_ptr<SlirpNet> net(new SlirpNet(clock));
  SlirpConfig c{};
  c.version = 1;
  c.restricted = config.restricted;
  c.in_enabled = true;
  c.vnetwork = config.ipv4.network;
  c.vnetmask = config.ipv4.mask;
  c.vhost = config.ipv4.host;
  c.vdhcp_start = config.ipv4.dhcp_start;
  c.vnameserver = config.ipv4.dns;
  c.in6_enabled = config.ipv6.enabled;
  c.vprefix_addr6 = config.ipv6.prefix;
  c.vprefix_len = config.ipv6.prefix_length;
  c.vhost6 = config.ipv6.host;
  c.vnameserver6 = config.ipv6.dns;
  c.vhostname = "deja";
  net->slirp_ = slirp_new(&c, &kCallbacks, net.get());
  if (!net->slirp_) return make_error("-nic user: libslirp does not start");
  for (const HostForward& f : config.forwards) DEJA_TRY(add_forward(net->slirp_, f));
  return net;
}

SlirpNet::SlirpNet(HostClock& clock) : clock_(clock) {}

SlirpNet::~SlirpNet() {
  if (slirp_) slirp_cleanup(slirp_);
}

void SlirpNet::send(std::string_view frame) {
  slirp_input(slirp_, reinterpret_cast<const u8*>(frame.data()), static_cast<int>(frame.size()));
}

std::string SlirpNet::take() {
  std::string frame = std::move(frames_.front());
  frames_.pop_front();
  return frame;
}

u64 SlirpNet::add_to(PollSet& set) {
  polled_ = &set;
  u32 timeout_ms = ~u32{0};
  slirp_pollfds_fill(slirp_, &timeout_ms, Callbacks::add_poll, this);
  polled_ = nullptr;
  u64 wait = timeout_ms == ~u32{0} ? kNeverNs : u64{timeout_ms} * kMillisecond;
  const u64 now = clock_.monotonic_ns();
  for (const auto& t : timers_)
    if (t->due_ns != kNeverNs) wait = std::min(wait, t->due_ns > now ? t->due_ns - now : 0);
  return wait;
}

void SlirpNet::service(const PollSet& set) {
  Callbacks::Ready ready{set};
  slirp_pollfds_poll(slirp_, 0, Callbacks::get_revents, &ready);
  run_timers();
}

void SlirpNet::run_timers() {
  const u64 now = clock_.monotonic_ns();
  // A callback may make and free timers: the list is looked through anew after each.
  while (true) {
    const auto due =
        std::find_if(timers_.begin(), timers_.end(), [&](const auto& t) { return t->due_ns <= now; });
    if (due == timers_.end()) return;
    (*due)->due_ns = kNeverNs;
    (*due)->callback((*due)->opaque);
  }
}

}  // namespace deja
