// The kernel that a recording was made of: its file, where it runs, what it says of itself.
#pragma once

#include <optional>
#include <vector>

#include "linux/guest_kernel.h"
#include "timeline/navigator.h"

namespace deja {

// The ELF file itself, unpacked. What a bzImage loads need not be a packed Linux when the guest was to unpack
// it: then the file as it is, in which there are no symbols. Empty: the kernel came from the guest's disk.
Result<std::vector<u8>> recorded_kernel(Navigator& nav);

// How far from where it was linked the kernel runs; before it does, that of the next one to be set up, for
// which it may go elsewhere in the recording and back.
Result<u64> find_kernel_slide(Navigator& nav, const std::optional<KernelBanner>& banner);

// How it describes its variables and structures. An error says what the kernel lacks.
Result<GuestKernel> find_guest_kernel(Navigator& nav);

}  // namespace deja
