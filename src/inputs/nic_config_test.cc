#include "inputs/nic_config.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>

namespace deja {
namespace {

using testing::HasSubstr;

TEST(NicConfig, AsInQemu) {
  EXPECT_EQ(parse_nic("none").value().kind, NicConfig::Kind::none);
  const NicConfig plain = parse_nic("user").value();
  EXPECT_EQ(plain.kind, NicConfig::Kind::user);
  EXPECT_EQ(plain.mac, "52:54:00:12:34:56");
  const NicConfig full =
      parse_nic(
          "user,hostfwd=tcp::2222-:22,hostfwd=udp:127.0.0.2:53-10.0.2.15:5353,restrict=on,model=virtio,"
          "mac=52:54:00:00:00:01")
          .value();
  EXPECT_TRUE(full.restricted);
  EXPECT_EQ(full.mac, "52:54:00:00:00:01");
  ASSERT_EQ(full.forwards.size(), 2u);
  EXPECT_EQ(full.forwards[0], (HostForward{false, false, "", 2222, "", 22}));
  EXPECT_EQ(full.forwards[1], (HostForward{true, false, "127.0.0.2", 53, "10.0.2.15", 5353}));
}

std::string text_of(in_addr a) {
  char text[INET_ADDRSTRLEN];
  return ::inet_ntop(AF_INET, &a, text, sizeof text);
}
std::string text_of(const in6_addr& a) {
  char text[INET6_ADDRSTRLEN];
  return ::inet_ntop(AF_INET6, &a, text, sizeof text);
}

TEST(NicConfig, TheGuestsNetwork) {
  const auto net = [](const std::string& options) {
    const Ipv4Net n = parse_nic("user" + options).value().ipv4;
    return fmt::format("{}/{} {} {} {}", text_of(n.network), text_of(n.mask), text_of(n.host), text_of(n.dns),
                       text_of(n.dhcp_start));
  };
  EXPECT_EQ(net(""), "10.0.2.0/255.255.255.0 10.0.2.2 10.0.2.3 10.0.2.15");
  EXPECT_EQ(net(",net=192.168.76.0/24"),
            "192.168.76.0/255.255.255.0 192.168.76.2 192.168.76.3 192.168.76.15");
  EXPECT_EQ(
      net(",net=192.168.76.9/255.255.255.0,dns=192.168.76.53,host=192.168.76.1,dhcpstart=192.168.76.100"),
      "192.168.76.0/255.255.255.0 192.168.76.1 192.168.76.53 192.168.76.100");
  EXPECT_EQ(net(",net=10.0.0.0"), "10.0.0.0/255.0.0.0 10.0.2.2 10.0.2.3 10.0.2.15");
  EXPECT_EQ(net(",net=172.20.0.0"), "172.16.0.0/255.240.0.0 172.16.2.2 172.16.2.3 172.16.2.15");
  EXPECT_EQ(net(",dns=10.0.2.53"), "10.0.2.0/255.255.255.0 10.0.2.2 10.0.2.53 10.0.2.15");
}

TEST(NicConfig, Ipv6IsThereForWhoAsks) {
  EXPECT_FALSE(parse_nic("user").value().ipv6.enabled);
  EXPECT_FALSE(parse_nic("user,ipv6=off").value().ipv6.enabled);
  const Ipv6Net usual = parse_nic("user,ipv6=on").value().ipv6;
  EXPECT_TRUE(usual.enabled);
  EXPECT_EQ(text_of(usual.prefix) + " " + text_of(usual.host) + " " + text_of(usual.dns),
            "fec0:: fec0::2 fec0::3");
  const Ipv6Net own = parse_nic("user,ipv6-net=fd00:12::77/64,ipv6-dns=fd00:12::53").value().ipv6;
  EXPECT_TRUE(own.enabled);
  EXPECT_EQ(text_of(parse_nic("user,ipv6-net=fd00:12::").value().ipv6.prefix), "fd00:12::");
  EXPECT_EQ(text_of(own.prefix) + " " + text_of(own.host) + " " + text_of(own.dns),
            "fd00:12:: fd00:12::2 fd00:12::53");
  const NicConfig forwarding =
      parse_nic("user,hostfwd=tcp:[::1]:2222-:22,hostfwd=udp::53-[fec0::15]:5353,hostfwd=tcp::80-:80")
          .value();
  EXPECT_TRUE(forwarding.ipv6.enabled);
  EXPECT_EQ(forwarding.forwards[0], (HostForward{false, true, "::1", 2222, "", 22}));
  EXPECT_EQ(forwarding.forwards[1], (HostForward{true, true, "", 53, "fec0::15", 5353}));
  EXPECT_EQ(forwarding.forwards[2], (HostForward{false, false, "", 80, "", 80}));
}

TEST(NicConfig, ErrorsSayWhatIsWrongWithANetwork) {
  const auto error = [](const std::string& options) { return parse_nic("user," + options).error().message; };
  EXPECT_THAT(error("net=10.0.2"), HasSubstr("-nic net=10.0.2: write for example"));
  EXPECT_THAT(error("net=10.0.2.0/33"), HasSubstr("mask"));
  EXPECT_THAT(error("net=10.0.2.0/255.0.255.0"), HasSubstr("mask"));
  EXPECT_THAT(error("dns=192.168.1.1"),
              HasSubstr("-nic dns=192.168.1.1: is no address of the network 10.0.2.0/24"));
  EXPECT_THAT(error("dns=10.0.2.2"), HasSubstr("is the address of host= too"));
  EXPECT_THAT(error("dns=10.0.2.255"), HasSubstr("is no address of"));
  EXPECT_THAT(error("dhcpstart=x"), HasSubstr("-nic dhcpstart=x: is not an IPv4 address"));
  EXPECT_THAT(error("net=10.0.2.0/28"), HasSubstr("-nic dhcpstart=10.0.2.15: is no address of"));
  EXPECT_THAT(error("ipv6-net=fd00::/129"), HasSubstr("-nic ipv6-net=fd00::/129: write for example"));
  for (const std::string bits : {"0", "1", "48", "63", "65", "80", "126", "127", "128"})
    EXPECT_THAT(error("ipv6-net=fd00::/" + bits),
                HasSubstr("-nic ipv6-net=fd00::/" + bits +
                          ": guests find an address of their own in a network of /64"));
  EXPECT_THAT(error("ipv6-dns=fd00::1"), HasSubstr("is no address of the network fec0::/64"));
  EXPECT_THAT(error("ipv6-host=10.0.2.2"), HasSubstr("is not an IPv6 address"));
  EXPECT_THAT(error("ipv6=off,hostfwd=tcp:[::1]:1-:2"), HasSubstr("-nic ipv6=off"));
  EXPECT_THAT(error("ipv6=maybe"), HasSubstr("on or off"));
  EXPECT_THAT(error("hostfwd=tcp:[::1]:1-10.0.2.15:2"), HasSubstr("one family"));
  EXPECT_THAT(error("hostfwd=tcp:[::g]:1-:2"), HasSubstr("'::g' is not an address of IPv6"));
  EXPECT_THAT(error("hostfwd=tcp:127.1:1-:2"), HasSubstr("'127.1' is not an address of IPv4"));
  EXPECT_THAT(error("hostfwd=tcp:::1:1-:2"), HasSubstr("in brackets"));
}

TEST(NicConfig, ErrorsSayWhatToWrite) {
  for (const char* text : {"tap", "", "user,hostfwd=2222-22", "user,hostfwd=tcp::0-:22",
                           "user,hostfwd=tcp::70000-:22", "user,hostfwd=tcp::2222", "user,mac=52:54",
                           "user,restrict=maybe", "user,smb=/tmp", "none,restrict=on"})
    EXPECT_THAT(parse_nic(text).error().message, HasSubstr("-nic")) << text;
  EXPECT_THAT(parse_nic("user,hostfwd=x").error().message, HasSubstr("hostfwd=tcp::2222-:22"));
}

}  // namespace
}  // namespace deja
