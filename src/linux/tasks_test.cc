#include "linux/tasks.h"

#include <gtest/gtest.h>

#include "linux/btf_for_test.h"
#include "machine/machine_for_test.h"

namespace deja {
namespace {

constexpr u64 kBase = 0xffffffff81000000, kPhysical = 32_MiB;
constexpr u64 kTypes = kBase + 4096;
// Offsets in task_struct, as types() describes it; the head of a thread list is all of a signal_struct.
constexpr u64 kTasks = 0, kPid = 8, kTgid = 12, kComm = 16, kSignal = 40, kThreadNode = 48, kCred = 56;

std::vector<u8> types() {
  test::BtfMaker m;
  m.type(m.name("int"), 1, 0, 4, {32});  // number 1: what it is does not matter
  const auto structure = [&](const char* name, std::vector<std::pair<const char*, u32>> members) {
    const u32 named = m.name(name);
    std::vector<u32> details;
    for (const auto& [member, at] : members)
      for (const u32 word : {m.name(member), u32{1}, at * 8}) details.push_back(word);
    m.type(named, 4, static_cast<u32>(members.size()), 64, details);
  };
  structure("task_struct", {{"tasks", kTasks},
                            {"pid", kPid},
                            {"tgid", kTgid},
                            {"comm", kComm},
                            {"mm", 32},
                            {"signal", kSignal},
                            {"thread_node", kThreadNode},
                            {"cred", kCred}});
  structure("cred", {{"uid", 0}});
  structure("signal_struct", {{"thread_head", 0}});
  structure("mm_struct", {{"pgd", 0}});
  return m.bytes();
}

// A kernel of which nothing is there but what a list of tasks needs: init_task at its third page, and behind
// it others that tests put there.
class Tasks : public testing::Test {
 protected:
  static constexpr u64 kInit = kBase + 8192, kOther = kInit + 256, kSize = 16384;

  Tasks() {
    const std::vector<u8> described = types();
    std::vector<u8> content(kSize);
    const std::string banner = "Linux version 6.1.0 (test)";
    std::copy(banner.begin(), banner.end(), content.begin() + 64);
    content[64 + banner.size()] = '\n';
    std::copy(described.begin(), described.end(), content.begin() + (kTypes - kBase));
    for (u64 at = 0; at < kSize; at += kPageSize)
      machine_.map(machine_.cpu(0).cr3, kBase + at, kPhysical + at);
    EXPECT_TRUE(machine_->ram().write(Gpa(kPhysical), content.data(), content.size()));
    auto kernel = GuestKernel::make(test::make_elf64(kPhysical, {{kPhysical, kBase, content}}),
                                    {{kTypes, 'R', "__start_BTF"},
                                     {kTypes + described.size(), 'R', "__stop_BTF"},
                                     {kInit, 'D', "init_task"}});
    EXPECT_TRUE(kernel) << kernel.error().message;
    auto list = TaskList::make(std::move(*kernel));
    EXPECT_TRUE(list) << list.error().message;
    list_.emplace(std::move(*list));
  }
  template <class T>
  void put(u64 linear, T value) {
    machine_.write(linear - kBase + kPhysical, value);
  }
  // A process with its one thread, or with none; `next`: the one behind it in the list.
  void put_process(u64 task, u32 pid, const std::string& name, u64 next, bool thread = true) {
    const u64 signal = task + 128, cred = task + 192;
    put(task + kTasks, next + kTasks);
    put(task + kPid, pid);
    put(task + kTgid, pid);
    machine_.write_text(task + kComm - kBase + kPhysical, name);
    put(task + kSignal, signal);
    put(task + kCred, cred);
    put(signal, thread ? task + kThreadNode : signal);
    put(task + kThreadNode, signal);
    put(cred, 1000 + pid);
  }

  test::MachineForTest machine_;
  std::optional<TaskList> list_;
};

TEST_F(Tasks, AreReadInOrder) {
  put_process(kInit, 0, "swapper/0", kOther);
  put_process(kOther, 1, "init", kInit);
  auto tasks = list_->read(*machine_);
  ASSERT_TRUE(tasks) << tasks.error().message;
  ASSERT_EQ(tasks->size(), 2u);
  EXPECT_EQ((*tasks)[0].name, "swapper/0");
  EXPECT_EQ((*tasks)[1].name, "init");
  EXPECT_EQ((*tasks)[1].pid, 1u);
  EXPECT_EQ((*tasks)[1].user, 1001u);
  EXPECT_FALSE((*tasks)[1].cr3);
}

TEST_F(Tasks, AListThatNeverComesBackHasAnEnd) {
  put_process(kInit, 0, "swapper/0", kOther);
  put_process(kOther, 1, "init", kOther, false);
  auto tasks = list_->read(*machine_);
  ASSERT_TRUE(tasks) << tasks.error().message;
  EXPECT_EQ(tasks->size(), 1u);
}

}  // namespace
}  // namespace deja
