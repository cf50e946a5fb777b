#include "linux/recorded_kernel.h"

#include "base/log.h"
#include "linux/kallsyms.h"
#include "machine/bzimage.h"
#include "replay/position.h"
#include "replay/replay_access.h"

namespace deja {
namespace {

constexpr unsigned kLooksAhead = 16;  // at a recording, for where its kernel will be

}  // namespace

Result<std::vector<u8>> recorded_kernel(Navigator& nav) {
  for (const RecordedFile& input : nav.manifest().inputs) {
    if (input.role != "kernel") continue;
    DEJA_ASSIGN(LoadedFile file, recorded_file(nav.dir(), input, kMaxGuestFile));
    if (is_bzimage(file.bytes)) {
      DEJA_ASSIGN(const BzImage image, parse_bzimage(file.bytes));
      auto vmlinux = extract_vmlinux(image);
      if (vmlinux || nav.manifest().machine.boot_mode == "vmlinux") return vmlinux;
      log_info("symbols", "the recorded kernel has none: {}", vmlinux.error().message);
    }
    return std::move(file.bytes);
  }
  return std::vector<u8>();
}

Result<u64> find_kernel_slide(Navigator& nav, const std::optional<KernelBanner>& banner) {
  if (!banner) return u64{0};
  Machine& machine = nav.machine();
  if (const auto place = find_kernel(machine, *banner)) return place->slide;
  bool fresh = nav.manifest().machine.boot_mode == "vmlinux";
  for (unsigned i = 0; i < machine.vcpu_count(); ++i) fresh = fresh && machine.cpu(i).msr.lstar == 0;
  if (fresh) return u64{0};  // nobody is there to move it
  const Step here = nav.position();
  std::optional<KernelPlace> place;
  for (unsigned i = 1; i <= kLooksAhead && !place; ++i) {
    DEJA_TRY(nav.seek(here + (nav.last() - here) / kLooksAhead * i));
    place = find_kernel(machine, *banner);
  }
  DEJA_TRY(nav.seek(here));
  return place ? place->slide : 0;
}

Result<GuestKernel> find_guest_kernel(Navigator& nav) {
  DEJA_ASSIGN(const std::vector<u8> kernel, recorded_kernel(nav));
  if (kernel.empty())
    return make_error("the kernel came from the guest's disk, not with --kernel: its symbols are not known");
  return GuestKernel::make(kernel, read_kallsyms(kernel));
}

}  // namespace deja
