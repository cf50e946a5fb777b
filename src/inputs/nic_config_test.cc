#include "inputs/nic_config.h"

#include <gmock/gmock.h>

namespace deja {
namespace {

using testing::HasSubstr;

TEST(NicConfig, AsInQemu) {
  EXPECT_EQ(parse_nic("none").value(), NicConfig{});
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
  EXPECT_EQ(full.forwards[0], (HostForward{false, "", 2222, "", 22}));
  EXPECT_EQ(full.forwards[1], (HostForward{true, "127.0.0.2", 53, "10.0.2.15", 5353}));
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
