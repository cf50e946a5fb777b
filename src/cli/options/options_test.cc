#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "cli/messages.h"
#include "cli/options/arguments.h"
#include "cli/options/drive_option.h"
#include "cli/options/engine_options.h"
#include "cli/options/machine_options.h"

namespace deja {
namespace {

using testing::ElementsAre;

std::vector<std::string> rewritten(const std::vector<std::string>& arguments, std::size_t notes = 0) {
  std::vector<std::string> said;
  auto out = from_qemu_spelling(arguments, {"-o", "--output", "--log", "--from", "-m", "--append"}, &said);
  EXPECT_EQ(said.size(), notes);
  return std::move(out).value();
}

TEST(Arguments, QemuSpellings) {
  EXPECT_THAT(rewritten({"record", "-kernel", "k", "-initrd", "i", "-append", "-a --b", "-m", "1G", "-smp",
                         "2", "-no-reboot"}),
              ElementsAre("record", "--kernel=k", "--initrd=i", "--append=-a --b", "-m", "1G", "--smp=2",
                          "--no-reboot"));
  EXPECT_THAT(
      rewritten({"run", "-nographic", "-display", "none", "-machine", "q35", "-M", "pc", "-kernel", "k"}, 2),
      ElementsAre("run", "--kernel=k"));
}

TEST(Arguments, WhatQemuHasOtherwiseSaysWhatToGive) {
  std::vector<std::string> notes;
  const auto error_of = [&](const std::string& word) {
    return from_qemu_spelling({"record", word, "disk.img"}, {}, &notes).error().message;
  };
  EXPECT_THAT(error_of("-hda"), testing::HasSubstr("--drive file=IMAGE")) << "and is not -h with help";
  EXPECT_THAT(error_of("-cdrom"), testing::HasSubstr("readonly"));
  EXPECT_THAT(error_of("-netdev"), testing::HasSubstr("--nic"));
  EXPECT_THAT(error_of("-hello"), testing::HasSubstr("no option -hello"));
  EXPECT_THAT(rewritten({"record", "-enable-kvm", "a", "-help"}, 1), ElementsAre("record", "a", "--help"));
  EXPECT_THAT(rewritten({"trim", "--from", "-2s", "-oNAME", "-m512M"}),
              ElementsAre("trim", "--from", "-2s", "-oNAME", "-m512M"));
}

TEST(Log, AnUnknownCategoryIsRefusedWithTheOnesThereAre) {
  EXPECT_TRUE(log_enable("guest,devices").ok());
  EXPECT_THAT(log_enable("guest,foo").error().message,
              testing::HasSubstr("'foo'; there are all, boot, devices"));
  EXPECT_FALSE(log_enable("guest,").ok());
}

TEST(Drive, AsInQemu) {
  const DriveOption plain = parse_drive("file=a.img", 2).value();
  EXPECT_EQ(plain.file.path, "a.img");
  EXPECT_EQ(plain.file.format, "");
  EXPECT_EQ(plain.spec, (DriveSpec{"", false, "deja2"}));
  const DriveOption full = parse_drive("if=virtio,format=qcow2,file=/a,,b=c,readonly,serial=disk", 0).value();
  EXPECT_EQ(full.file.path, "/a,b=c");
  EXPECT_EQ(full.file.format, "qcow2");
  EXPECT_EQ(full.spec, (DriveSpec{"", true, "disk"}));
  EXPECT_FALSE(parse_drive("file=a,readonly=off", 0).value().spec.read_only);
  const DriveSpec large = parse_drive("file=a,logical_block_size=4096", 0).value().spec;
  EXPECT_EQ(large.logical_block_size, 4096u);
  EXPECT_EQ(large.physical_block_size, 4096u) << "at least as large";
  const DriveSpec both =
      parse_drive("physical_block_size=8192,file=a,logical_block_size=1024", 0).value().spec;
  EXPECT_EQ(both.logical_block_size, 1024u);
  EXPECT_EQ(both.physical_block_size, 8192u);
  for (const char* text : {"", "a.img", "file=", "file=a,if=ide", "file=a,if=pflash", "file=a,werror=stop",
                           "format=raw", "file=a,logical_block_size=4k", "file=a,physical_block_size="})
    EXPECT_THAT(parse_drive(text, 0).error().message, testing::HasSubstr("--drive")) << text;
}

TEST(Arguments, ValuesAreLeftAlone) {
  EXPECT_THAT(rewritten({"record", "-o", "-nographic", "--append", "-kernel", "--log", "all", "rec"}),
              ElementsAre("record", "-o", "-nographic", "--append=-kernel", "--log", "all", "rec"));
  EXPECT_THAT(rewritten({"verify", "--", "-kernel"}), ElementsAre("verify", "--", "-kernel"));
  EXPECT_THAT(rewritten({"run", "-kernel"}), ElementsAre("run", "--kernel"));
}

TEST(MemorySize, Parses) {
  EXPECT_EQ(parse_memory_size("512M").value(), 512_MiB);
  EXPECT_EQ(parse_memory_size("512").value(), 512_MiB);
  EXPECT_EQ(parse_memory_size("2G").value(), 2_GiB);
  EXPECT_EQ(parse_memory_size("size=64m").value(), 64_MiB);
  EXPECT_EQ(parse_memory_size("131072K").value(), 128_MiB);
  for (const char* bad :
       {"", "M", "x", "31M", "17G", "-1", "1T", "100000K", "99999999999999999999G", "18446744073709551615"})
    EXPECT_FALSE(parse_memory_size(bad).ok()) << bad;
}

TEST(EngineList, Parses) {
  EngineOptions o;
  EXPECT_TRUE(parse_engine_list("", &o).ok());
  EXPECT_TRUE(parse_engine_list("no-link,max-insns=1,no-inline-tlb", &o).ok());
  EXPECT_FALSE(o.translate.link);
  EXPECT_FALSE(o.translate.inline_tlb);
  EXPECT_TRUE(o.translate.inline_jumps);
  EXPECT_EQ(o.translate.max_insns, 1u);
  for (const EngineSwitch& s : kEngineSwitches) {
    EngineOptions one;
    EXPECT_TRUE(parse_engine_list(std::string("no-") + s.name, &one).ok()) << s.name;
    EXPECT_FALSE(one.translate.*s.on) << s.name;
  }
  for (const char* bad :
       {"x", "link", "no-", "max-insns=0", "max-insns=65", "max-insns=", "no-link,,", "chaos=7"})
    EXPECT_FALSE(parse_engine_list(bad, &o).ok()) << bad;
}

TEST(MachineOptions, ErrorsNameTheOption) {
  FakeHostClock clock;
  const auto error_of = [&](auto change) {
    MachineOptions o;
    o.kernel = "k";
    o.rng_seed = "none";
    change(o);
    SessionRequest request;
    const Status status = o.apply(&request, clock);
    return status.ok() ? std::string() : status.error().message;
  };
  using testing::HasSubstr;
  EXPECT_EQ(error_of([](MachineOptions&) {}), "");
  EXPECT_THAT(error_of([](MachineOptions& o) { o.memory = "12"; }), HasSubstr("-m 12"));
  EXPECT_THAT(error_of([](MachineOptions& o) { o.smp = "0"; }), HasSubstr("--smp 0"));
  for (const u32 unknown : {kOldestBehaviour - 1, kMachineBehaviour + 1})
    EXPECT_THAT(error_of([&](MachineOptions& o) { o.behaviour = unknown; }),
                HasSubstr(fmt::format("--machine-behaviour {}: this deja has ", unknown)));
  EXPECT_THAT(error_of([](MachineOptions& o) { o.boot = "uefi"; }), HasSubstr("--boot uefi"));
  EXPECT_THAT(error_of([](MachineOptions& o) { o.rtc = "noon"; }), HasSubstr("--rtc noon"));
  EXPECT_THAT(error_of([](MachineOptions& o) { o.rng_seed = "abc"; }), HasSubstr("--rng-seed abc"));
  EXPECT_THAT(error_of([](MachineOptions& o) { o.serial = {"none", "none"}; }), HasSubstr("--serial"));
}

TEST(Messages, Sizes) {
  EXPECT_EQ(bytes(973), "973 bytes");
  EXPECT_EQ(bytes(3277), "3.2 KiB");
  EXPECT_EQ(bytes(5_GiB), "5.0 GiB");
}

}  // namespace
}  // namespace deja
