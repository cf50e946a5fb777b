// The guest's network in a process of its own: frames go both ways, errors are told, and its death harms
// nobody.
#include "inputs/slirp_process.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

namespace deja {
namespace {

using testing::HasSubstr;
using namespace std::string_literals;

constexpr u64 kSecond = 1'000'000'000;

// Who has 10.0.2.2?, asks 10.0.2.15.
const std::string kArpRequest =
    "\xff\xff\xff\xff\xff\xff\x52\x54\0\x12\x34\x56\x08\x06"
    "\0\x01\x08\0\x06\x04\0\x01\x52\x54\0\x12\x34\x56\x0a\0\x02\x0f\0\0\0\0\0\0\x0a\0\x02\x02"s;

NicConfig user_nic(const std::string& more = "") {
  return parse_nic("user,mac=52:54:00:12:34:56" + more).value();
}

// Waits for a frame for the guest; empty: none came.
std::string next_frame(SlirpProcess& net) {
  for (int i = 0; i < 60 && !net.waiting(); ++i) {
    PollSet set;
    (void)net.add_to(set);
    set.wait(kSecond);
    net.service(set);
  }
  return net.waiting() ? net.take() : std::string();
}

TEST(SlirpProcess, AnswersTheGuest) {
  auto net = SlirpProcess::create(user_nic());
  ASSERT_TRUE(net) << net.error().message;
  for (int i = 0; i < 20; ++i) {
    (*net)->send(kArpRequest);
    const std::string reply = next_frame(**net);
    ASSERT_GE(reply.size(), 42u);
    EXPECT_EQ(reply.substr(0, 6), kArpRequest.substr(6, 6)) << "to the guest";
    EXPECT_EQ(reply.substr(12, 10), kArpRequest.substr(12, 8) + "\0\x02"s) << "an answer";
    EXPECT_EQ(reply.substr(28, 4), kArpRequest.substr(38, 4)) << "from 10.0.2.2";
  }
}

TEST(SlirpProcess, APortInUseIsNamed) {
  const int taken = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(taken, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(taken, 1), 0);
  ASSERT_EQ(::getsockname(taken, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string port = std::to_string(::ntohs(address.sin_port));
  const auto net = SlirpProcess::create(user_nic(",hostfwd=tcp::" + port + "-:22"));
  ASSERT_FALSE(net);
  EXPECT_THAT(net.error().message, HasSubstr(port));
  ::close(taken);
}

TEST(SlirpProcess, AfterItsDeathTheNetworkIsSilent) {
  auto net = SlirpProcess::create(user_nic());
  ASSERT_TRUE(net) << net.error().message;
  pid_t child = 0;
  std::ifstream("/proc/self/task/" + std::to_string(::getpid()) + "/children") >> child;
  ASSERT_GT(child, 0);
  ASSERT_EQ(::kill(child, SIGKILL), 0);
  siginfo_t info;
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(child), &info, WEXITED | WNOWAIT), 0);
  for (std::size_t i = 0; i < 2 * UserNet::kMostWaiting; ++i) (*net)->send(kArpRequest);
  PollSet set;
  (void)(*net)->add_to(set);
  set.wait(60 * kSecond);
  (*net)->service(set);
  EXPECT_FALSE((*net)->waiting());
  PollSet after;
  EXPECT_EQ((*net)->add_to(after), kNeverNs);
  (*net)->send(kArpRequest);
}

}  // namespace
}  // namespace deja
