// Video memory through its window, as the CPU sees it.
#include <gtest/gtest.h>

#include <utility>

#include "machine/images_for_test.h"
#include "machine/machine.h"

// A Multiboot guest: finds the framebuffer's BAR by slot, opens its window at C0000000h, stores into it,
// moves it to C8000000h, adds to what it stored there, and leaves through the debug-exit port with what the
// first window holds now (nothing: all ones) and the second one has.
asm(R"(
  .pushsection .rodata
  .code32
  .balign 4
screen_guest:
  .long 0x1badb002, 0x10000, 0xe4514ffe
  .long 0x100000, 0x100000, 0, 0, sg_start - screen_guest + 0x100000
sg_start:
  movl $0x80000, %esp
  movl $0x8000a010, %ebx
  movl $0xc0000000, %ecx
  call sg_write
  movl $0x8000a004, %ebx
  movl $2, %ecx
  call sg_write
  movl $0x12, 0xc0000123
  movb $0x03, 0xc0000fff
  movl $0x8000a010, %ebx
  movl $0xc8000000, %ecx
  call sg_write
  addl $0x04, 0xc8000123
  movb 0xc8000123, %al
  addb 0xc8000fff, %al
  subb 0xc0000123, %al
  movw $0xf4, %dx
  outb %al, %dx
  hlt
sg_write:
  movl %ebx, %eax
  movw $0xcf8, %dx
  outl %eax, %dx
  movl %ecx, %eax
  movw $0xcfc, %dx
  outl %eax, %dx
  ret
screen_guest_end:
  .code64
  .popsection
)");
extern "C" {
extern const deja::u8 screen_guest[], screen_guest_end[];
}

namespace deja {
namespace {

std::unique_ptr<Machine> make_machine(std::vector<u8>& kernel, const EngineOptions& engine = {}) {
  kernel.assign(screen_guest, screen_guest_end);
  MachineConfig config;
  config.ram_bytes = 32_MiB;
  config.screen = ScreenSize{640, 480};
  config.boot.kernel = {"kernel", kernel};
  auto machine = Machine::create(config, engine);
  DEJA_CHECK(machine.ok(), "{}", machine.error().message);
  return std::move(*machine);
}

TEST(Screen, TheWindowMovesAndItsMemoryStays) {
  std::vector<u8> kernel;
  const auto machine = make_machine(kernel);
  EXPECT_EQ(machine->run(100'000), MachineStop::ended);
  EXPECT_EQ(machine->exit_status(), (0x12u + 4 + 3 + 1) << 1 | 1);
  EXPECT_EQ(test::peek<u8>(machine->ram(), kVideoMemory + 0x123), 0x16);
  EXPECT_EQ(machine->ram().digest(), machine->ram().digest_from_scratch());
}

TEST(Screen, ASavedMachineGoesOnWithItsWindow) {
  std::vector<u8> kernel;
  for (Step at = 1; at < 40; at += 3) {
    const auto original = make_machine(kernel);
    ASSERT_EQ(original->run(at), MachineStop::until);
    const MachineState state{original->save_cpus(), original->save_devices(), original->save_disks()};
    const auto copy = make_machine(kernel);
    copy->run(100'000);
    for (const auto& [from, size] : {std::pair(u64{0}, original->ram().low_size()),
                                     std::pair(kVideoMemory, original->ram().video_size())})
      ASSERT_TRUE(copy->ram().write(Gpa(from), original->ram().host(Gpa(from)), size));
    ASSERT_TRUE(copy->restore(state).ok());
    EXPECT_EQ(copy->run(100'000), MachineStop::ended);
    EXPECT_EQ(copy->exit_status(), (0x12u + 4 + 3 + 1) << 1 | 1) << at;
  }
}

TEST(Screen, FirmwareHasSwitchedItOn) {
  std::vector<u8> kernel;
  const auto machine = make_machine(kernel);
  ASSERT_TRUE(machine->screen_mode());
  EXPECT_EQ(machine->screen_mode()->size, (ScreenSize{640, 480}));
}

}  // namespace
}  // namespace deja
