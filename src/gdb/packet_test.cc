#include "gdb/packet.h"

#include <gtest/gtest.h>

#include <random>

namespace deja {
namespace {

using Kind = GdbInput::Kind;

TEST(GdbPacket, CarriesAnyBytes) {
  std::string all;
  for (int c = 0; c < 256; ++c) all.push_back(static_cast<char>(c));
  GdbPacketReader reader;
  reader.feed("+" + gdb_packet(all) + gdb_packet("") + gdb_packet("OK"));
  for (const std::string& expected : {all, std::string(), std::string("OK")}) {
    ASSERT_FALSE(reader.empty());
    const GdbInput in = reader.next();
    EXPECT_EQ(in.kind, Kind::packet);
    EXPECT_EQ(in.payload, expected);
  }
  EXPECT_TRUE(reader.empty());
}

TEST(GdbPacket, ChecksumIsTheSumOfTheBytes) { EXPECT_EQ(gdb_packet("OK"), "$OK#9a"); }

TEST(GdbPacket, MayArriveByteByByte) {
  GdbPacketReader reader;
  for (const char c : gdb_packet("qSupported:x#$}")) reader.feed(std::string_view(&c, 1));
  ASSERT_FALSE(reader.empty());
  EXPECT_EQ(reader.next().payload, "qSupported:x#$}");
}

TEST(GdbPacket, WhatIsDamagedIsSaidToBe) {
  GdbPacketReader reader;
  reader.feed("$OK#9b$OK#zz$a}#de$OK#9a");
  for (int i = 0; i < 3; ++i) EXPECT_EQ(reader.next().kind, Kind::damaged) << i;
  EXPECT_EQ(reader.next().payload, "OK");
}

TEST(GdbPacket, TooLongIsDamagedAndBounded) {
  GdbPacketReader reader;
  reader.feed("$" + std::string(GdbPacketReader::kMaxPayload + 1, 'x'));
  EXPECT_TRUE(reader.empty());
  reader.feed("#00$OK#9a");
  EXPECT_EQ(reader.next().kind, Kind::damaged);
  EXPECT_EQ(reader.next().payload, "OK");
}

TEST(GdbPacket, CutOffPacketGivesWayToTheNext) {
  GdbPacketReader reader;
  reader.feed("$qXfer:fea$OK#9a");
  EXPECT_EQ(reader.next().payload, "OK");
  EXPECT_TRUE(reader.empty());
}

TEST(GdbPacket, InterruptStandsOutsidePackets) {
  GdbPacketReader reader;
  reader.feed("\x03$OK#9a\x03-");
  EXPECT_EQ(reader.next().kind, Kind::interrupt);
  EXPECT_EQ(reader.next().kind, Kind::packet);
  EXPECT_EQ(reader.next().kind, Kind::interrupt);
  EXPECT_EQ(reader.next().kind, Kind::resend);
}

TEST(GdbPacket, AnyNoiseIsSafe) {
  std::mt19937_64 random(1);
  constexpr std::string_view kAlphabet = "$#}+-\x03 0fO";
  for (int round = 0; round < 2000; ++round) {
    GdbPacketReader reader;
    std::string noise;
    for (int i = 0; i < 200; ++i) noise.push_back(kAlphabet[random() % kAlphabet.size()]);
    reader.feed(noise);
    while (!reader.empty()) EXPECT_LE(reader.next().payload.size(), noise.size());
    reader.feed("#00#00" + gdb_packet("OK"));
    GdbInput last;
    while (!reader.empty()) last = reader.next();
    EXPECT_EQ(last.payload, "OK");
  }
}

TEST(GdbFields, TakeWhatIsThereAndNoMore) {
  GdbFields f("1f,ffffffffffffffff;rest");
  u64 n = 0;
  EXPECT_TRUE(f.number(&n) && n == 0x1f);
  EXPECT_FALSE(f.number(&n));
  EXPECT_TRUE(f.literal(',') && f.number(&n) && n == ~u64{0});
  EXPECT_TRUE(f.literal(';') && f.rest() == "rest");
  GdbFields long_number("11112222333344445");
  EXPECT_FALSE(long_number.number(&n));
  i64 id = 5;
  EXPECT_TRUE(GdbFields("-1").thread(&id) && id == -1);
  EXPECT_FALSE(GdbFields("-2").thread(&id));
  EXPECT_TRUE(GdbFields("2").thread(&id) && id == 2);
  std::string bytes;
  EXPECT_TRUE(from_hex("00ff", &bytes) && bytes == std::string("\0\xff", 2));
  EXPECT_FALSE(from_hex("0", &bytes) || from_hex("zz", &bytes));
}

}  // namespace
}  // namespace deja
