// The recording directory: manifest, input files, names, life and death of a recorder.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include "eventlog/packed_recording.h"
#include "eventlog/recording.h"
#include "eventlog/temp_dir_for_test.h"
#include "machine/memory_map.h"

namespace deja {
namespace {

using testing::AllOf;
using testing::HasSubstr;
namespace fs = std::filesystem;

RecordingManifest sample_manifest() {
  RecordingManifest m;
  m.machine_version = 3;
  m.build = "0.1.0-test";
  m.created_unix_ns = 1'795'361'412'000'000'001;
  m.recorder_pid = 77;
  m.host = {"Some CPU", "Linux 6.1", 2};
  m.machine = {.ram_bytes = 512_MiB,
               .vcpus = 2,
               .cpu_model = "x86-64-v3,+adx,+sha-ni",
               .clock_rate_num = 1,
               .clock_rate_den = 3,
               .quantum_steps = 10'000,
               .boot_mode = "vmlinux",
               .cmdline = "console=ttyS0 \"quoted\" \xff\x80 bytes",
               .serial = {"stdio", "file:/tmp/\xc3\xa4"},
               .drives = {{"qcow2", true, "disk \xff"}, {"raw", false, ""}, {"raw", false, "", 4096, 16384}},
               .nic_mac = "52:54:00:12:34:56",
               .console = true,
               .options = {{"isa-debug-exit", "0xf4"}}};
  m.inputs = {{"kernel", "/boot/vmlinuz", std::string(64, 'a'), 12345, "sha256-" + std::string(64, 'a'), ""},
              {"initrd", "/tmp/initrd", std::string(64, 'b'), 1, "", ""},
              {"drive0", "/tmp/disk", "", 7, "", "1-2-3-7"}};
  m.rtc_base_unix_seconds = -1;
  m.rng_seed = std::string("\0\1\xff", 3);
  m.parent = ParentInfo{"before \xff", -5, 77};
  m.base = BaseInfo{1'000, 2'000, 900, "whole", 17};
  return m;
}

EndInfo sample_end() { return {{event::EndReason::power_off, 0, "S5"}, 1000, 900, 5000, 6000, 3, 0, 0, 0}; }

// A manifest text whose checksum fits whatever was changed in it.
std::string with_checksum(std::string text) {
  const auto at = text.rfind(",\n  \"checksum\"");
  text.resize(at);
  return text + fmt::format(",\n  \"checksum\": \"{:016x}\"\n}}\n", XXH3_64bits(text.data(), text.size()));
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(Manifest, RoundTrip) {
  RecordingManifest m = sample_manifest();
  EXPECT_EQ(parse_manifest(to_json(m), "m").value(), m);
  m.end = sample_end();
  m.end->log_checksum = ~u64{0};
  EXPECT_EQ(parse_manifest(to_json(m), "m").value(), m);
  m.machine.options.clear();
  m.machine.serial.clear();
  m.inputs.clear();
  EXPECT_EQ(parse_manifest(to_json(m), "m").value(), m);
}

TEST(Manifest, EveryFlippedByteAndEveryTruncationIsDetected) {
  RecordingManifest m = sample_manifest();
  m.end = sample_end();
  const std::string good = to_json(m);
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const u8 mask : {0x01, 0x20, 0x80}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ mask);
      const auto r = parse_manifest(bad, "manifest.json");
      ASSERT_FALSE(r.ok()) << i;
      ASSERT_THAT(r.error().message, HasSubstr("manifest.json: "));
    }
    ASSERT_FALSE(parse_manifest(good.substr(0, i), "manifest.json").ok()) << i;
  }
}

TEST(Manifest, InputsAreThoseOfAMachine) {
  const auto error = [](const RecordingManifest& m) {
    const auto parsed = parse_manifest(to_json(m), "/r/manifest.json");
    return parsed ? "" : parsed.error().message;
  };
  RecordingManifest m = sample_manifest();
  const RecordedFile drive = m.inputs.back();
  m.inputs.push_back(drive);
  EXPECT_THAT(error(m), HasSubstr("/r/manifest.json: inputs[3].role: there is another 'drive0'"));
  m.inputs.back().role = "drive1";
  EXPECT_EQ(error(m), "");
  m.inputs.back().identity.clear(), m.inputs.back().sha256 = std::string(64, 'c');
  EXPECT_THAT(error(m), HasSubstr("inputs[3].identity: must be there for a drive"));
  m.inputs.pop_back();
  m.inputs[1].identity = "1-2-3-4";
  EXPECT_THAT(error(m), HasSubstr("inputs[1].identity: must be there for a drive"));
  m.inputs[1].identity.clear();

  m.inputs.insert(m.inputs.begin(), {"firmware", "/bios", std::string(64, 'd'), 1, "", ""});
  for (unsigned i = 1; i < kMaxDrives; ++i) {
    m.inputs.push_back(drive);
    m.inputs.back().role = fmt::format("drive{}", i);
  }
  EXPECT_EQ(error(m), "");
  m.inputs.push_back(m.inputs[0]);
  m.inputs.back().role = "notes";
  EXPECT_THAT(error(m), HasSubstr("/r/manifest.json: inputs: must be at most 19"));
}

TEST(Manifest, ErrorsNameTheMember) {
  const std::string good = to_json(sample_manifest());
  const auto error = [&](const std::string& from, const std::string& to) {
    return parse_manifest(with_checksum(replaced(good, from, to)), "/r/manifest.json").error().message;
  };
  EXPECT_THAT(error("\"format_version\": 5", "\"format_version\": 6"),
              HasSubstr("/r/manifest.json: format_version: the recording has format 6, and this program "
                        "knows formats up to 5"));
  EXPECT_THAT(error("\"ram_bytes\": 536870912", "\"ram_bytes\": \"x\""),
              HasSubstr("machine.ram_bytes: must be an integer"));
  EXPECT_THAT(error("\"ram_bytes\": 536870912", "\"ram_bytes\": 1.5"),
              HasSubstr("machine.ram_bytes: must be an integer"));
  EXPECT_THAT(error("\"vcpus\": 2", "\"vcpus\": 0"), HasSubstr("machine.vcpus: must be an integer from 1"));
  EXPECT_THAT(error("\"vcpus\"", "\"cpus\""), HasSubstr("machine.vcpus: is missing"));
  EXPECT_THAT(error("\"build\":", "\"new\": 1, \"build\":"), HasSubstr("new: is not a member"));
  EXPECT_THAT(error("\"den\": 3", "\"den\": 0"), HasSubstr("machine.clock_rate.den"));
  EXPECT_THAT(error("\"stored\": \"sha256-", "\"stored\": \"../../"),
              HasSubstr("inputs[0].stored: must be empty or"));
  EXPECT_THAT(error("\"rng_seed\": \"0001ff\"", "\"rng_seed\": \"0001f\""), HasSubstr("rng_seed"));
  EXPECT_THAT(error("\"state\": \"running\"", "\"state\": \"ended\""), HasSubstr("end: is missing"));
  EXPECT_THAT(error("\"state\": \"running\"", "\"state\": \"lost\""), HasSubstr("state: must be"));
  EXPECT_THAT(error("\"serial\": [", "\"serial\": [[], "), HasSubstr("machine.serial: must be a string"));
  EXPECT_THAT(parse_manifest("[1]", "m").error().message, HasSubstr("not valid JSON"));
  EXPECT_THAT(parse_manifest(std::string(100'000, '['), "m").error().message, HasSubstr("not valid JSON"));
  EXPECT_THAT(parse_manifest("{}", "m").error().message, HasSubstr("format_version"));
}

class RecordingDir : public testing::Test {
 protected:
  void SetUp() override {
    ::setenv("XDG_DATA_HOME", (tmp_.path / "data").c_str(), 1);
    spew(tmp_.path / "kernel", "a kernel's bytes");
  }
  fs::path home() const { return tmp_.path / "data/deja"; }

  // A recording ended in order.
  fs::path record(const std::string& name) {
    clock_.now_ns += 1'000'000'000;
    fs::path dir = create_recording_dir(name, clock_.wall_unix_ns()).value();
    auto manifest = sample_manifest();
    manifest.inputs = {add_input(dir, "kernel", tmp_.path / "kernel", InputStorage::copy).value()};
    auto w = std::move(RecordingWriter::create(dir, manifest, clock_)).value();
    point_latest_to(dir);
    for (u64 i = 0; i < 5; ++i) EXPECT_TRUE(w->append({i * 100, event::Progress{i}}).ok());
    const Status s = w->finish(sample_end());
    EXPECT_TRUE(s.ok()) << (s ? "" : s.error().message);
    return dir;
  }

  TempDir tmp_;
  FakeHostClock clock_;
};

TEST_F(RecordingDir, WriteOpenRead) {
  const fs::path dir = record("first");
  EXPECT_EQ(dir, home() / "first.deja");
  ASSERT_TRUE(check_recording(dir).ok()) << check_recording(dir).error().message;
  auto r = std::move(Recording::open(dir)).value();
  EXPECT_EQ(r.state, RecordingState::ended);
  EXPECT_EQ(r.manifest.end->instructions, 900u);
  EXPECT_EQ(r.manifest.end->log_bytes, fs::file_size(dir / "events.log"));
  std::size_t events = 0;
  while (r.log.next().value()) ++events;
  EXPECT_EQ(events, 6u);
  EXPECT_TRUE(r.check_end().ok());
  const RecordedFile& kernel = r.manifest.inputs[0];
  const auto loaded = load_input(find_input(dir, kernel).value(), kernel, 1_KiB).value();
  EXPECT_EQ(std::string(loaded.bytes.begin(), loaded.bytes.end()), "a kernel's bytes");
  EXPECT_EQ(fs::status(dir).permissions(), fs::perms::owner_all);
}

// Self-contained: works after being moved, without the original input.
TEST_F(RecordingDir, MovedElsewhere) {
  const fs::path dir = record("first");
  fs::rename(dir, tmp_.path / "moved.deja");
  fs::remove(tmp_.path / "kernel");
  EXPECT_TRUE(check_recording(tmp_.path / "moved.deja").ok());
}

TEST_F(RecordingDir, EveryFlippedByteOfEveryFileIsDetected) {
  const fs::path dir = record("first");
  for (const auto& entry : fs::recursive_directory_iterator(dir)) {
    if (!entry.is_regular_file()) continue;
    fs::permissions(entry.path(), fs::perms::owner_all);
    const std::string good = slurp(entry.path());
    for (std::size_t i = 0; i < good.size(); ++i) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ 0x04);
      spew(entry.path(), bad);
      const Status s = check_recording(dir);
      ASSERT_FALSE(s.ok()) << entry.path() << " byte " << i;
      ASSERT_THAT(s.error().message, HasSubstr(entry.path().string()));
    }
    for (std::size_t size = 0; size < good.size(); ++size) {
      spew(entry.path(), good.substr(0, size));
      ASSERT_FALSE(check_recording(dir).ok()) << entry.path() << " cut to " << size;
    }
    spew(entry.path(), good);
    ASSERT_TRUE(check_recording(dir).ok());
  }
}

TEST_F(RecordingDir, MissingFilesAreNamed) {
  for (const char* file : {"manifest.json", "events.log"}) {
    const fs::path dir = record(std::string("without-") + file);
    fs::remove(dir / file);
    EXPECT_THAT(check_recording(dir).error().message, HasSubstr(file));
  }
}

TEST_F(RecordingDir, NamesAndLatest) {
  const fs::path first = record("first");
  const fs::path second = record("second");
  EXPECT_EQ(resolve_recording("latest").value(), second);
  EXPECT_EQ(resolve_recording("first").value(), first);
  EXPECT_EQ(resolve_recording("first.deja").value(), first);
  EXPECT_EQ(resolve_recording(first.string()).value(), first);
  EXPECT_EQ(resolve_recording(first.string() + "/").value(), first);
  EXPECT_EQ(resolve_recording((home() / "first").string()).value(), first);
  EXPECT_EQ(resolve_recording((home() / "latest").string()).value(), second);
  EXPECT_THAT(resolve_recording("third").error().message, HasSubstr("'third': there is no such recording"));
  EXPECT_THAT(resolve_recording("").error().message, HasSubstr("missing"));
  EXPECT_FALSE(resolve_recording("/tmp").ok());
  EXPECT_FALSE(resolve_recording("/dev/null").ok());
  EXPECT_THAT(create_recording_dir("first", 0).error().message, HasSubstr("exists already"));
  EXPECT_FALSE(create_recording_dir("latest", 0).ok());
  EXPECT_FALSE(create_recording_dir("..", 0).ok());
  // From the date; a second one in the same second gets a number.
  const auto a = create_recording_dir("", 1'795'361'412'000'000'000).value();
  const auto b = create_recording_dir("", 1'795'361'412'000'000'000).value();
  EXPECT_THAT(a.filename().string(), testing::MatchesRegex("20[0-9-]+-[0-9]+\\.deja"));
  EXPECT_EQ(b.stem().string(), a.stem().string() + "-2");
  // A path leaves `latest` alone.
  const fs::path elsewhere = record((tmp_.path / "x").string());
  EXPECT_EQ(elsewhere, tmp_.path / "x.deja");
  EXPECT_EQ(resolve_recording("latest").value(), second);
}

TEST_F(RecordingDir, ListAndRemove) {
  EXPECT_TRUE(list_recordings().value().empty());
  record("b");
  record("a");
  fs::create_directories(home() / "other");
  spew(home() / "b.deja/manifest.json", slurp(home() / "b.deja/manifest.json"));
  auto list = std::move(list_recordings()).value();
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].name, "b");
  EXPECT_EQ(list[1].name, "a");
  EXPECT_EQ(list[1].state, RecordingState::ended);
  EXPECT_GT(list[1].bytes, 100u);

  EXPECT_THAT(remove_recording(home() / "other").error().message, HasSubstr("not a recording"));
  EXPECT_FALSE(remove_recording(home()).ok());
  EXPECT_FALSE(remove_recording(home() / "latest").ok());
  ASSERT_TRUE(remove_recording(home() / "a.deja").ok());
  EXPECT_EQ(resolve_recording("latest").value(), home() / "b.deja");
  ASSERT_TRUE(remove_recording(home() / "b.deja").ok());
  EXPECT_FALSE(fs::exists(fs::symlink_status(home() / "latest")));

  record("c");
  spew(home() / "c.deja/manifest.json", "{");
  list = std::move(list_recordings()).value();
  ASSERT_EQ(list.size(), 1u);
  EXPECT_THAT(list[0].problem, HasSubstr("not valid JSON"));
  EXPECT_TRUE(remove_recording(home() / "c.deja").ok()) << "a damaged recording can be removed";
}

TEST_F(RecordingDir, WhileItIsWritten) {
  const fs::path dir = create_recording_dir("now", 0).value();
  {
    auto w = std::move(RecordingWriter::create(dir, sample_manifest(), clock_)).value();
    ASSERT_TRUE(w->append({5, event::Progress{1}}).ok());
    auto r = std::move(Recording::open(dir)).value();
    EXPECT_EQ(r.state, RecordingState::writing);
    EXPECT_EQ(r.log.next().value()->step, 5u);
    EXPECT_EQ(list_recordings().value()[0].state, RecordingState::writing);
    EXPECT_THAT(remove_recording(dir).error().message, HasSubstr("is being recorded"));
  }
  EXPECT_EQ(Recording::open(dir).value().state, RecordingState::killed);
  EXPECT_TRUE(remove_recording(dir).ok());
}

TEST_F(RecordingDir, Inputs) {
  const fs::path dir = create_recording_dir("in", 0).value();
  const auto copy = add_input(dir, "kernel", tmp_.path / "kernel", InputStorage::copy).value();
  const auto reference = add_input(dir, "kernel", tmp_.path / "kernel", InputStorage::reference).value();
  // sha256sum of "a kernel's bytes"
  EXPECT_EQ(copy.sha256, sha256_of_file(tmp_.path / "kernel").value());
  EXPECT_EQ(copy.size, 16u);
  EXPECT_EQ(copy.stored, "sha256-" + copy.sha256);
  EXPECT_EQ(reference.stored, "");
  EXPECT_EQ(add_input(dir, "initrd", tmp_.path / "kernel", InputStorage::copy).value().sha256, copy.sha256);
  const std::string text = "a kernel's bytes";
  const std::span<const u8> bytes(reinterpret_cast<const u8*>(text.data()), text.size());
  EXPECT_EQ(add_input(dir, "kernel", tmp_.path / "kernel", bytes, InputStorage::copy).value(), copy);
  EXPECT_EQ(add_input(dir, "kernel", tmp_.path / "kernel", bytes, InputStorage::reference).value(),
            reference);
  spew(tmp_.path / "kernel", "another kernel");
  EXPECT_TRUE(find_input(dir, copy).ok());
  EXPECT_THAT(find_input(dir, reference).error().message, HasSubstr("is not the kernel that was recorded"));
  fs::remove(tmp_.path / "kernel");
  EXPECT_THAT(find_input(dir, reference).error().message, HasSubstr("--no-copy-inputs"));
  EXPECT_THAT(add_input(dir, "kernel", tmp_.path / "nothing", InputStorage::copy).error().message,
              HasSubstr("No such file"));
  EXPECT_THAT(add_input(dir, "kernel", tmp_.path, InputStorage::copy).error().message,
              HasSubstr("not a regular file"));
  EXPECT_THAT(add_input(dir, "kernel", "/dev/zero", InputStorage::copy).error().message,
              HasSubstr("not a regular file"));
}

// What a recording from somebody else may hold in place of its files, for each of them.
class HostileFiles : public RecordingDir {
 protected:
  void SetUp() override {
    RecordingDir::SetUp();
    dir_ = record("hostile");
    spew(dir_ / "checkpoints.dat", "no checkpoints");
    const std::string kernel = Recording::open(dir_).value().manifest.inputs[0].stored;
    names_ = {"manifest.json", "events.log", "checkpoints.dat", "inputs/" + kernel};
  }
  // The error of packing; empty: it was packed.
  std::string pack_error() {
    const fs::path file = tmp_.path / "packed.dejavm";
    const auto packed = pack_recording(dir_, file, PackImages::with);
    EXPECT_EQ(fs::exists(file), packed.ok()) << "half an archive is none";
    fs::remove(file);
    return packed ? "" : packed.error().message;
  }
  void each(const std::function<void(const fs::path& path, const fs::path& aside)>& replace,
            const std::string& message) {
    ASSERT_EQ(pack_error(), "");
    for (const std::string& name : names_) {
      const fs::path path = dir_ / name, aside = tmp_.path / "aside";
      fs::rename(path, aside);
      replace(path, aside);
      EXPECT_THAT(pack_error(), AllOf(HasSubstr(path.string()), HasSubstr(message)));
      if (name != "checkpoints.dat") {
        const Status checked = check_recording(dir_);
        ASSERT_FALSE(checked.ok()) << name;
        // A log behind a link may belong to a recorder, and is not asked.
        EXPECT_FALSE(being_written(dir_));
        EXPECT_THAT(checked.error().message, HasSubstr(message));
      }
      fs::remove_all(path);
      fs::rename(aside, path);
    }
    EXPECT_EQ(pack_error(), "");
  }

  fs::path dir_;
  std::vector<std::string> names_;
};

TEST_F(HostileFiles, LinksAreNotFollowed) {
  each([](const fs::path& path, const fs::path& aside) { fs::create_symlink(aside, path); },
       "is a symbolic link");
}

TEST_F(HostileFiles, NobodyWaitsForAFifo) {
  each([](const fs::path& path, const fs::path&) { ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0); },
       "not a regular file");
}

TEST_F(HostileFiles, ADirectoryIsNoFile) {
  each([](const fs::path& path, const fs::path&) { fs::create_directory(path); }, "not a regular file");
}

TEST_F(HostileFiles, TheDirectoryOfInputsIsNoLink) {
  fs::rename(dir_ / "inputs", tmp_.path / "elsewhere");
  fs::create_directory_symlink(tmp_.path / "elsewhere", dir_ / "inputs");
  EXPECT_THAT(pack_error(), HasSubstr("is not a directory"));
  EXPECT_FALSE(check_recording(dir_).ok());
}

TEST_F(HostileFiles, AFileOfAThirdUserIsNotTaken) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root gives files away";
  each(
      [](const fs::path& path, const fs::path& aside) {
        fs::copy_file(aside, path);
        ASSERT_EQ(::chown(path.c_str(), 4711, 4711), 0);
      },
      "belongs to user 4711");
  // All of it somebody else's is what one is given.
  for (const auto& entry : fs::recursive_directory_iterator(dir_))
    ASSERT_EQ(::chown(entry.path().c_str(), 4711, 4711), 0);
  ASSERT_EQ(::chown(dir_.c_str(), 4711, 4711), 0);
  EXPECT_EQ(pack_error(), "");
}

TEST_F(HostileFiles, AnInputIsCheckedBeforeItIsPacked) {
  const fs::path path = dir_ / names_.back();
  fs::permissions(path, fs::perms::owner_all);
  spew(path, "another's bytes!");
  EXPECT_THAT(pack_error(), HasSubstr("is not the kernel that was recorded"));
}

// The places that manifests name outside of a recording.
class NamedElsewhere : public RecordingDir {
 protected:
  void SetUp() override {
    RecordingDir::SetUp();
    ::setenv("XDG_CACHE_HOME", (tmp_.path / "cache").c_str(), 1);
    spew(tmp_.path / "disk", "a disk's content");
  }
  std::string error(const RecordedFile& input) {
    const auto found = find_input(tmp_.path, input);
    return found ? "" : found.error().message;
  }
  RecordedFile kernel() {
    return add_input(tmp_.path, "kernel", tmp_.path / "kernel", InputStorage::reference).value();
  }
  RecordedFile drive() {
    return add_drive("drive0", open_disk_image((tmp_.path / "disk").string(), "raw").value());
  }
};

TEST_F(NamedElsewhere, OnlyRegularFilesOfTheRightSizeAreOpened) {
  for (RecordedFile input : {kernel(), drive()}) {
    EXPECT_EQ(error(input), "");
    const std::string right = input.original_path;
    ASSERT_EQ(::mkfifo((tmp_.path / "fifo").c_str(), 0600), 0);
    for (const fs::path& path :
         {fs::path("/"), fs::path("/dev/zero"), fs::path("/dev/null"), tmp_.path / "fifo"}) {
      input.original_path = path;
      EXPECT_THAT(error(input), HasSubstr("is not a regular file")) << path;
    }
    fs::remove(tmp_.path / "fifo");
    input.original_path = right;
    input.sha256 = std::string(64, 'a');
    EXPECT_THAT(error(input), HasSubstr("its SHA-256 is"));
    input.size += 1;
    EXPECT_THAT(error(input), HasSubstr("it has 16 bytes, recorded was 17"));
  }
}

// Not even for a moment: what is at a path may be something that is used by being opened.
TEST_F(NamedElsewhere, WhatCannotBeTheFileIsNotOpened) {
  for (RecordedFile input : {kernel(), drive()}) {
    input.sha256 = std::string(64, 'a');
    const int watch = ::inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    ASSERT_GE(::inotify_add_watch(watch, input.original_path.c_str(), IN_OPEN), 0);
    const auto was_opened = [&] {
      char events[4096];
      return ::read(watch, events, sizeof events) > 0;
    };
    EXPECT_THAT(error(input), HasSubstr("its SHA-256 is"));
    EXPECT_TRUE(was_opened());
    input.size += 1;
    EXPECT_THAT(error(input), HasSubstr("it has 16 bytes, recorded was 17"));
    EXPECT_FALSE(was_opened());
    ::close(watch);
  }
}

// Its dates tell nobody what a file of the user's holds, but they can be read by others.
TEST_F(NamedElsewhere, AnImageThatWasNotHashedIsTheOneThatTheUserNamed) {
  RecordedFile named = drive();
  ASSERT_EQ(named.sha256, "");
  EXPECT_EQ(error(named), "");
  spew(tmp_.path / "private", "of the user");
  RecordedFile unnamed = named;
  unnamed.original_path = tmp_.path / "private";
  EXPECT_THAT(error(unnamed), HasSubstr("has been changed or replaced"));
  unnamed.identity = HostFile::open(unnamed.original_path).value().identity().value();
  EXPECT_THAT(error(unnamed), HasSubstr("nothing shows that it is what was recorded"));
  // Not either when a manifest has let it be hashed.
  unnamed.size = 11;
  unnamed.sha256 = std::string(64, 'a');
  EXPECT_THAT(error(unnamed), HasSubstr("its SHA-256 is"));
  unnamed.sha256.clear();
  EXPECT_THAT(error(unnamed), HasSubstr("nothing shows that it is what was recorded"));
}

TEST_F(RecordingDir, WhatIsUnpackedReplacesNothing) {
  const fs::path dir = record("good"), packed = tmp_.path / "good.dejavm";
  ASSERT_TRUE(pack_recording(dir, packed, PackImages::with).ok());
  spew(tmp_.path / "precious", "mine");
  fs::create_symlink(tmp_.path / "precious", tmp_.path / "link.deja");
  fs::create_symlink(tmp_.path / "nowhere", tmp_.path / "dangling.deja");
  for (const char* name : {"precious", "link.deja", "dangling.deja"})
    EXPECT_THAT(unpack_recording(packed, tmp_.path / name).error().message, HasSubstr("exists already"));
  EXPECT_EQ(slurp(tmp_.path / "precious"), "mine");
  EXPECT_FALSE(fs::exists(tmp_.path / "nowhere"));
  // Somebody was there before, with a link to where things were to go.
  fs::create_directory(tmp_.path / "trap");
  fs::create_directory_symlink(tmp_.path / "trap",
                               tmp_.path / fmt::format("new.deja.unpacking.{}", ::getpid()));
  EXPECT_THAT(unpack_recording(packed, tmp_.path / "new.deja").error().message, HasSubstr("cannot create"));
  EXPECT_TRUE(fs::is_empty(tmp_.path / "trap"));
  EXPECT_TRUE(unpack_recording(packed, tmp_.path / "other.deja").ok());
  EXPECT_TRUE(check_recording(tmp_.path / "other.deja").ok());
}

// Archives that no `deja pack` has made.
class Archives : public RecordingDir {
 protected:
  void SetUp() override {
    RecordingDir::SetUp();
    dir_ = record("good");
    const fs::path packed = tmp_.path / "good.dejavm";
    ASSERT_TRUE(pack_recording(dir_, packed, PackImages::with).ok());
    const std::string bytes = slurp(packed);
    tar_.resize(1_MiB);
    tar_.resize(ZSTD_decompress(tar_.data(), tar_.size(), bytes.data(), bytes.size()));
  }
  // The error of unpacking one; empty: it was unpacked.
  std::string error(const std::string& tar) {
    std::string bytes(ZSTD_compressBound(tar.size()), '\0');
    bytes.resize(ZSTD_compress(bytes.data(), bytes.size(), tar.data(), tar.size(), 1));
    const fs::path file = tmp_.path / "other.dejavm", to = tmp_.path / "other.deja";
    spew(file, bytes);
    const Status unpacked = unpack_recording(file, to);
    EXPECT_EQ(fs::exists(to), unpacked.ok());
    fs::remove_all(to);
    return unpacked ? "" : unpacked.error().message;
  }
  static std::string padded(std::string text) {
    text.resize((text.size() + 511) / 512 * 512);
    return text;
  }
  static std::string member(const std::string& name, const std::string& content) {
    std::string h(512, '\0');
    h.replace(0, name.size(), name);
    h.replace(124, 11, fmt::format("{:011o}", content.size()));
    h[156] = '0';
    h.replace(257, 5, "ustar");
    return h + padded(content);
  }
  std::string file(const std::string& name) const { return member(name, slurp(dir_ / name)); }
  static std::string end() { return std::string(1024, '\0'); }

  fs::path dir_;
  std::string tar_;
};

TEST_F(Archives, AnInputIsWhatItsNameSays) {
  EXPECT_EQ(error(tar_), "");
  EXPECT_THAT(error(replaced(tar_, "a kernel's bytes", "another's bytes!")),
              HasSubstr("is not what its name says"));
}

TEST_F(Archives, HoldWhatTheirManifestsName) {
  const std::string manifest = file("manifest.json"), log = file("events.log");
  const std::string kernel = "inputs/" + Recording::open(dir_).value().manifest.inputs[0].stored;
  EXPECT_EQ(error(manifest + log + file(kernel) + end()), "");
  EXPECT_THAT(error(log + manifest + file(kernel) + end()), HasSubstr("does not begin with manifest.json"));
  EXPECT_THAT(error(end()), HasSubstr("does not begin with manifest.json"));
  EXPECT_THAT(error(manifest + log + member(kernel, std::string(17, 'x')) + end()),
              HasSubstr("holds 17 bytes as " + kernel + ", and its manifest says 16"));
  for (const std::string& name : {"inputs/sha256-" + std::string(64, 'a'), std::string("events-1.log"),
                                  std::string("checkpoints-1.dat")})
    EXPECT_THAT(error(manifest + log + member(name, "more") + end()),
                HasSubstr("holds '" + name + "', which its manifest does not name"));
  EXPECT_THAT(error(member("manifest.json", std::string(17_MiB, ' ')) + log + end()),
              HasSubstr("manifest.json in it is larger than 16 MiB"));
  EXPECT_THAT(error(member("manifest.json", "{}") + log + end()), HasSubstr("manifest.json: format_version"));
}

TEST_F(Archives, UnpackToWhatIsInThem) {
  const std::string zeros = member("checkpoints.dat", std::string(80_MiB, '\0'));
  EXPECT_THAT(error(file("manifest.json") + file("events.log") + zeros + end()),
              HasSubstr("checkpoints.dat unpacks to more than 100 times what the archive holds"));
}

TEST_F(RecordingDir, Sha256OfAKnownText) {
  spew(tmp_.path / "abc", "abc");  // FIPS 180-2, appendix B.1
  EXPECT_EQ(sha256_of_file(tmp_.path / "abc").value(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

// SIGKILL at any moment: what was flushed is there, the recording is seen as killed.
TEST_F(RecordingDir, RecorderKilled) {
  for (int round = 0; round < 5; ++round) {
    const fs::path dir = create_recording_dir(fmt::format("killed-{}", round), 0).value();
    int out[2];
    ASSERT_EQ(::pipe(out), 0);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      RealHostClock clock;
      RecordingManifest manifest = sample_manifest();
      manifest.inputs.clear();
      auto w = std::move(RecordingWriter::create(dir, manifest, clock)).value();
      for (u64 step = 1;; ++step) {
        if (!w->append({step, input::SerialBytes{0, "key"}}).ok() || (step % 50 == 0 && !w->flush().ok()))
          ::_exit(1);
        // Tell the parent what is in the kernel's hands.
        if (step % 50 == 0 && ::write(out[1], &step, sizeof step) != sizeof step) ::_exit(1);
      }
    }
    ::close(out[1]);
    u64 flushed = 0, step = 0;
    while (flushed < 500u * (round + 1) && ::read(out[0], &step, sizeof step) == sizeof step) flushed = step;
    EXPECT_TRUE(being_written(dir));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    while (::read(out[0], &step, sizeof step) == sizeof step) flushed = step;
    ::close(out[0]);

    ASSERT_TRUE(check_recording(dir).ok()) << check_recording(dir).error().message;
    auto r = std::move(Recording::open(dir)).value();
    EXPECT_EQ(r.state, RecordingState::killed);
    u64 last = 0;
    while (true) {
      const auto e = r.log.next().value();
      if (!e) break;
      ASSERT_EQ(e->step, ++last);
    }
    EXPECT_GE(last, flushed);
  }
}

TEST(LaterRecordings, GetANumberWhenTheirNameIsTakenAndAreLimited) {
  TempDir dir;
  const auto make = [](const std::string& name) { return create_later_recording_dir(name, 0); };
  ASSERT_TRUE(prepare_later_recordings(dir.path / "deep" / "down", 3).ok());
  EXPECT_EQ(make("noon").value(), dir.path / "deep/down/noon.deja");
  EXPECT_EQ(make("noon").value(), dir.path / "deep/down/noon-2.deja");
  for (const char* bad : {"../noon", "a/b", ".hidden", "-o", "latest", "two words", "\xc3\xa4", "\x1b[2J"})
    EXPECT_FALSE(make(bad)) << bad;
  EXPECT_FALSE(make(std::string(65, 'x')));
  auto dated = make("");
  ASSERT_TRUE(dated);
  EXPECT_TRUE(std::filesystem::is_directory(*dated));
  const auto fourth = make("more");
  ASSERT_FALSE(fourth);
  EXPECT_NE(fourth.error().message.find("has made 3 recordings"), std::string::npos)
      << fourth.error().message;
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(dir.path / "deep/down"), {}), 3);
}

}  // namespace
}  // namespace deja
