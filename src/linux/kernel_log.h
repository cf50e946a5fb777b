// What a Linux guest's kernel has said: its ring buffer of messages, as dmesg shows it.
#pragma once

#include <string>
#include <vector>

#include "linux/guest_kernel.h"

namespace deja {

struct KernelMessage {
  u64 ns = 0;  // of its own clock
  u8 level = 0;
  std::string text;
};

// What is in the buffer now, oldest first. Changes nothing. For Linux 5.10 and later (kernel/printk/
// printk_ringbuffer.h). A message that is being written at this very moment is left out.
Result<std::vector<KernelMessage>> read_kernel_log(const GuestKernel& kernel, const Machine& machine);

// "[    0.123456] text", a line for each line of each.
std::string as_dmesg(const std::vector<KernelMessage>& messages);

}  // namespace deja
