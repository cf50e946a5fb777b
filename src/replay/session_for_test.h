// A small guest, a fake clock and scripted inputs: sessions and recordings for tests. For one file of a test
// program.
#pragma once

#include <gtest/gtest.h>

#include "checkpoint/checkpoint_writer.h"
#include "eventlog/temp_dir_for_test.h"
#include "inputs/scripted_inputs_for_test.h"
#include "replay/checkpointing.h"
#include "replay/live_session.h"
#include "replay/replay_session.h"

// A Multiboot guest that sleeps in HLT, is woken by the PIT at 100 Hz, and answers on COM1: it echoes each
// byte; 'q' leaves through the debug-exit port with 5, 'r' resets through the keyboard controller, 'b' keeps
// it busy for two million instructions, 't' turns the PIT's interrupt off.
asm(R"(
  .pushsection .rodata
  .code32
test_guest:
  .long 0x1badb002, 0, 0xe4524ffe
  movl $0x80000, %esp
  movl %cs, %ebx
  shll $16, %ebx
  movl $(timer - test_guest + 0x100000), %eax
  movl $(0x70000 + 0x20 * 8), %edi
  call gate
  movl $(com1 - test_guest + 0x100000), %eax
  movl $(0x70000 + 0x24 * 8), %edi
  call gate
  lidt (idtr - test_guest + 0x100000)
  movb $0x11, %al; outb %al, $0x20
  movb $0x20, %al; outb %al, $0x21
  movb $4, %al; outb %al, $0x21
  movb $1, %al; outb %al, $0x21
  movb $0xee, %al; outb %al, $0x21
  movb $0x34, %al; outb %al, $0x43
  movb $0x9c, %al; outb %al, $0x40
  movb $0x2e, %al; outb %al, $0x40
  movw $0x3fb, %dx; movb $3, %al; outb %al, %dx
  movw $0x3f9, %dx; movb $1, %al; outb %al, %dx
  movw $0x3fc, %dx; movb $8, %al; outb %al, %dx
  sti
1:hlt
  jmp 1b
gate:
  movl %ebx, %edx
  movw %ax, %dx
  movl %edx, (%edi)
  andl $0xffff0000, %eax
  orl $0x8e00, %eax
  movl %eax, 4(%edi)
  ret
timer:
  pushal
  incl 0x60000
eoi:
  movb $0x20, %al; outb %al, $0x20
  popal
  iret
com1:
  pushal
  movw $0x3f8, %dx
  inb %dx, %al
  outb %al, %dx
  cmpb $'q', %al; je quit
  cmpb $'r', %al; je reset
  cmpb $'b', %al; je busy
  cmpb $'t', %al; jne eoi
  movb $0xef, %al; outb %al, $0x21
  jmp eoi
quit:
  movw $0xf4, %dx; movb $5, %al; outb %al, %dx
  jmp .
reset:
  movb $0xfe, %al; outb %al, $0x64
  jmp .
busy:
  movl $1000000, %ecx
2:decl %ecx
  jnz 2b
  jmp eoi
idtr:
  .word 0x7ff
  .long 0x70000
test_guest_end:
faulting_guest:
  .long 0x1badb002, 0, 0xe4524ffe
  ud2
faulting_guest_end:
  .code64
  .popsection
)");
extern "C" {
extern const deja::u8 test_guest[], test_guest_end[], faulting_guest[], faulting_guest_end[];
}

namespace deja {

inline constexpr u64 kMs = 1'000'000, kSecond = 1'000'000'000;
inline constexpr Step kTestDigests = 1'000'000;

// ELF32 with one segment at 1 MiB whose entry is behind the Multiboot header.
inline std::vector<u8> make_kernel(const u8* begin, const u8* end) {
  std::vector<u8> out(84);
  const auto put = [&](std::size_t at, u32 value, unsigned size) { std::memcpy(&out[at], &value, size); };
  std::memcpy(out.data(),
              "\x7f"
              "ELF\1\1\1",
              7);
  put(16, 2, 2), put(18, 3, 2), put(20, 1, 4), put(24, 0x10000c, 4), put(28, 52, 4);
  put(40, 52, 2), put(42, 32, 2), put(44, 1, 2);
  const u32 size = static_cast<u32>(end - begin);
  put(52, 1, 4), put(56, 84, 4), put(60, 0x100000, 4), put(64, 0x100000, 4), put(68, size, 4),
      put(72, size, 4), put(76, 7, 4);
  out.insert(out.end(), begin, end);
  return out;
}

// Host time passes by itself, so that a busy guest's session gets on: a microsecond a look.
class TickingClock : public FakeHostClock {
 public:
  u64 monotonic_ns() override { return ++looks, now_ns += tick_ns; }
  u64 looks = 0, tick_ns = 1000;
};

class VectorSink : public EventSink {
 public:
  Status append(const LogEvent& event) override {
    events.push_back(event);
    return events.size() > capacity ? Status(make_error("fake disk is full")) : Status();
  }
  Status tick() override { return {}; }
  Status flush() override {
    ++flushes;
    if (flushes >= room_after) capacity = ~std::size_t{0};
    return events.size() > capacity ? Status(make_error("fake disk is full")) : Status();
  }
  std::string describe() const override { return "memory"; }

  std::vector<LogEvent> events;
  std::size_t capacity = ~std::size_t{0};
  int flushes = 0, room_after = 1 << 30;
};

class SessionTest : public testing::Test {
 protected:
  SessionTest() { use(make_kernel(test_guest, test_guest_end)); }

  void use(std::vector<u8> kernel) {
    files_.kernel.path = (temp_.path / "kernel").string();
    files_.kernel.bytes = std::move(kernel);
    spew(files_.kernel.path, std::string(files_.kernel.bytes.begin(), files_.kernel.bytes.end()));
    setup_.spec.ram_bytes = 32_MiB;
    setup_.spec.cpu_model = "x86-64-v3";
    setup_.spec.quantum_steps = 200'000;
    setup_.spec.boot_mode = "vmlinux";
    setup_.rtc_unix_seconds = 1'000'000'000;
  }
  void type(u64 at_ms, std::string text) { inputs_.add(at_ms * kMs, input::SerialBytes{0, std::move(text)}); }
  void quit(u64 at_ms) { inputs_.add(at_ms * kMs, input::Quit{false, "test"}); }

  event::End run(EventSink* sink, bool interactive = false) {
    auto config = machine_config(setup_, files_);
    machine_ = std::move(Machine::create(*config, {})).value();
    LiveOptions options;
    options.interactive = interactive;
    options.digest_interval = kTestDigests;
    std::unique_ptr<CheckpointWriter> checkpoints;
    if (!checkpoint_file_.empty()) {
      checkpoints =
          std::move(CheckpointWriter::create(std::move(create_append_file(checkpoint_file_.string())).value(),
                                             checkpoint_owner_, machine_->ram()))
              .value();
      options.checkpoint_interval = checkpoint_interval_;
      options.checkpoint = [&](const SessionCounts& counts, const std::string& serial) {
        checkpoints->take(checkpoint_point(*machine_, counts, serial));
        return true;
      };
    }
    LiveSession session(
        *machine_, inputs_, output_, clock_, sink,
        [this](std::string_view line) { notes_.emplace_back(line); }, options);
    event::End end = session.run();
    warps_ = session.warps();
    digests_ = session.digests();
    if (checkpoints) {
      EXPECT_TRUE(checkpoints->finish().ok());
    }
    return end;
  }

  // Records into NAME.deja; events for which `drop` holds are lost.
  std::filesystem::path record(bool finish = true, std::function<bool(const LogEvent&)> drop = {}) {
    struct Sink : EventSink {
      Status append(const LogEvent& e) override {
        if (drop && drop(e)) return {};
        return writer->append(alter ? alter(e) : e);
      }
      Status tick() override { return writer->tick(); }
      Status flush() override { return writer->flush(); }
      std::string describe() const override { return "test"; }
      std::unique_ptr<RecordingWriter> writer;
      std::function<bool(const LogEvent&)> drop;
      std::function<LogEvent(const LogEvent&)> alter;
    } sink;
    auto dir = create_recording_dir((temp_.path / "rec").string(), 0).value();
    RecordingManifest manifest;
    to_manifest(setup_, &manifest);
    manifest.inputs.push_back(add_input(dir, "kernel", files_.kernel.path, InputStorage::copy).value());
    sink.writer = std::move(RecordingWriter::create(dir, manifest, clock_)).value();
    sink.drop = std::move(drop);
    sink.alter = alter_;
    if (checkpoint_interval_) {
      checkpoint_file_ = dir / checkpoints_file(sink.writer->manifest());
      checkpoint_owner_ = checkpoint_owner(sink.writer->manifest());
    }
    EndInfo info;
    info.end = run(&sink);
    info.final_step = machine_->clock().steps;
    info.instructions = instructions_retired(*machine_, warps_);
    info.digests = digests_;
    if (finish) {
      EXPECT_TRUE(sink.writer->finish(info).ok());
    }
    return dir;
  }
  Result<ReplayReport> replay(const std::filesystem::path& dir, std::string to = {}) {
    replayed_.text.clear();
    return run_replay({dir, engine_, std::move(to), false, compare_}, replayed_, clock_);
  }
  std::string console() const { return output_.text.empty() ? "" : output_.text[0]; }
  std::string replayed_console() const { return replayed_.text.empty() ? "" : replayed_.text[0]; }

  TempDir temp_;
  TickingClock clock_;
  ScriptedInputs inputs_{clock_};
  StringSerialOutput output_, replayed_;
  GuestSetup setup_;
  GuestFiles files_;
  EngineOptions engine_;
  std::unique_ptr<Machine> machine_;
  std::vector<std::string> notes_;
  // For record(): checkpoints are taken, and events become other ones on their way into the log.
  Step checkpoint_interval_ = 0;
  std::function<LogEvent(const LogEvent&)> alter_;
  // For replay().
  std::function<std::string(const Divergence&, Machine&)> compare_;
  u64 warps_ = 0, digests_ = 0;

 private:
  std::filesystem::path checkpoint_file_;
  u64 checkpoint_owner_ = 0;
};

template <class T>
std::vector<LogEvent> only(const std::vector<LogEvent>& events) {
  std::vector<LogEvent> out;
  for (const LogEvent& e : events)
    if (std::holds_alternative<T>(e.body)) out.push_back(e);
  return out;
}

}  // namespace deja
