#include "replay/guest_setup.h"

namespace deja {
namespace {

// No guest has more RAM than this, so no file that is to be loaded into it can be larger.
constexpr u64 kMaxFile = 16_GiB;

BootFile boot_file(const LoadedFile& file) { return {file.path, file.bytes}; }

}  // namespace

Result<GuestFiles> read_guest_files(const std::string& kernel, const std::string& initrd) {
  GuestFiles files;
  DEJA_ASSIGN(files.kernel, read_input_file("kernel", kernel, kMaxFile));
  if (!initrd.empty()) {
    DEJA_ASSIGN(files.initrd, read_input_file("initrd", initrd, kMaxFile));
  }
  return files;
}

Result<MachineConfig> machine_config(const GuestSetup& setup, const GuestFiles& files) {
  const MachineSpec& spec = setup.spec;
  MachineConfig config;
  config.ram_bytes = spec.ram_bytes;
  config.vcpus = spec.vcpus;
  config.cpu = spec.cpu_model;
  config.clock_rate_num = spec.clock_rate_num;
  config.clock_rate_den = spec.clock_rate_den;
  config.quantum = spec.quantum_steps;
  config.rtc_unix_seconds = setup.rtc_unix_seconds;
  for (const auto& [name, value] : spec.options) {
    if (name != kRebootOption || value != "off")
      return make_error("machine option {}={} is not known to this version of deja", name, value);
    config.reboot = false;
  }
  if (spec.boot_mode == "bzimage")
    config.boot.mode = BootMode::bzimage;
  else if (spec.boot_mode != "vmlinux")
    return make_error("boot mode '{}' is not known; there are vmlinux and bzimage", spec.boot_mode);
  config.boot.kernel = boot_file(files.kernel);
  if (files.initrd) config.boot.initrd = boot_file(*files.initrd);
  config.boot.cmdline = spec.cmdline;
  config.boot.rng_seed.assign(setup.rng_seed.begin(), setup.rng_seed.end());
  return config;
}

}  // namespace deja
