#include "cli/options/machine_options.h"

#include "base/host_limits.h"
#include "base/parse_number.h"
#include "cli/options/drive_option.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace deja {
namespace {

constexpr std::string_view kMachine = "Machine";
constexpr u64 kMinRam = 32_MiB, kMaxRam = 16_GiB;
constexpr std::size_t kDefaultSeedBytes = 32;

// Firmware that has a name: where its Debian package puts it.
struct KnownFirmware {
  std::string_view name, path, package;
};
constexpr KnownFirmware kSeabios{"seabios", "/usr/share/seabios/bios-256k.bin", "seabios"};
constexpr KnownFirmware kOvmf{"ovmf", "/usr/share/ovmf/OVMF.fd", "ovmf"};

// QEMU also writes the main value of an option with its name: size=512M, cpus=2.
std::string_view without_name(std::string_view text, std::string_view name) {
  return text.starts_with(name) ? text.substr(name.size()) : text;
}

Result<std::string> parse_seed(std::string_view text) {
  std::string out;
  if (text.size() % 2)
    return make_error("--rng-seed {}: an even number of hexadecimal digits is needed", text);
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const std::optional<u8> byte = parse_number<u8>(text.substr(i, 2), 16);
    if (!byte) return make_error("--rng-seed {}: '{}' is not hexadecimal", text, text.substr(i, 2));
    out.push_back(static_cast<char>(*byte));
  }
  return out;
}

}  // namespace

Result<u64> parse_memory_size(std::string_view text) {
  const std::string_view size = without_name(text, "size=");
  std::string_view digits = size;
  u64 unit = 1_MiB;
  if (!digits.empty()) {
    const auto suffix = std::string_view("KkMmGg").find(digits.back());
    if (suffix != std::string_view::npos) {
      unit = u64{1} << (10 * (suffix / 2 + 1));
      digits.remove_suffix(1);
    }
  }
  const auto n = parse_number<u64>(digits);
  if (!n || *n > kMaxRam / unit)
    return n ? make_error("-m {}: a machine can have 32M to 16G", text)
             : make_error("-m {}: not a size; write for example 512M or 2G", text);
  const u64 size_bytes = *n * unit;
  if (size_bytes < kMinRam) return make_error("-m {}: a machine can have 32M to 16G", text);
  if (size_bytes % 1_MiB) return make_error("-m {}: must be a whole number of MiB", text);
  return size_bytes;
}

void MachineOptions::add_to(Command& app) {
  const std::string group(kMachine);
  app.add_option("-m,--memory", memory, "RAM: 32M to 16G; a plain number counts MiB [512M]")->group(group);
  app.add_option("--smp", smp, "number of vCPUs, 1 to 16 [1]")->group(group);
  app.add_option("--cpu", cpu,
                 fmt::format("MODEL[,+FEATURE]…: models {}; features {}, each if the host has it [x86-64-v3]",
                             cpu_model_names(), cpu_feature_names()))
      ->group(group);
  app.add_option("IMAGE", image,
                 "disk image to run: the first drive, from which the kernel is taken too; brings --nic user");
  app.add_option("--kernel", kernel, "Linux bzImage or vmlinux, or a Multiboot ELF kernel")->group(group);
  app.add_option("--firmware", firmware,
                 "seabios (BIOS), ovmf (UEFI), or the path of a firmware image: start as hardware does, from "
                 "the boot "
                 "loader on the first disk; none: never [for an IMAGE without a kernel that could be taken "
                 "out: seabios]")
      ->group(group);
  app.add_option("--initrd", initrd, "initial RAM disk; for Multiboot: the module")->group(group);
  app.add_option("--append", append, "kernel command line, e.g. console=ttyS0")->group(group);
  app.add_option("--boot", boot,
                 "vmlinux: unpack a bzImage here; bzimage: the guest's own decompressor does [vmlinux]")
      ->group(group);
  app.add_option("--serial", serial, "COM1: stdio, none, file:PATH, unix:PATH[,server[,nowait]] [stdio]")
      ->group(group);
  app.add_option(
         "--drive", drive,
         "virtio disk: file=PATH[,format=raw|qcow2|vmdk|vdi][,readonly][,serial=TEXT]"
         "[,logical_block_size=4096]; the image is never written, what the guest writes belongs to the "
         "run")
      ->group(group);
  app.add_option("--nic", nic, fmt::format("virtio network card: none, or {} [none]", kNicForm))
      ->group(group);
  app.add_option("--console", console, "a virtio console (hvc0), with a value as for --serial")->group(group);
  app.add_option("--screen", screen,
                 "a framebuffer of this size, such as 1024x768; `deja screenshot` shows it [none]")
      ->group(group);
  app.add_option("--monitor", monitor, "listen for monitor commands on this unix socket")->group(group);
  app.add_flag("--no-reboot", no_reboot, "end when the guest resets the machine")->group(group);
  app.add_option("--until", until,
                 "end by itself, a moment after serial:\"TEXT\" or panic was said on COM1, or at mark:NAME")
      ->group(group);
  app.add_flag("--until-exit", until_exit,
               "end when the guest does: it is switched off, resets the machine, or its kernel panics")
      ->group(group);
  app.add_option("--rtc", rtc, "date of the guest's clock at power-on: now, or seconds since 1970 UTC [now]")
      ->group(group);
  app.add_option("--rng-seed", rng_seed,
                 "seed for the guest kernel's random numbers, hexadecimal, or none [random]")
      ->group(group);
  app.add_option("--chaos", chaos,
                 "a seed: vCPUs take turns of random length and order, and stand still at times; finds races")
      ->group(group);
  app.add_option(
         "--guest-control", guest_control,
         "what programs in the guest may do: on (set marks, end the recording, end the run), record (also "
         "begin recordings), marks (set marks only), off (and not even see it) [on]")
      ->group(group)
      ->one_of({"on", "record", "marks", "off"});
  app.add_option(
         "--machine-behaviour", behaviour,
         fmt::format(
             "version of what the guest sees of the machine, {}; `deja info` shows a recording's [{}]",
             to_string(BehaviourRange()), kMachineBehaviour))
      ->group(group);
  app.add_option("--quantum", quantum, "steps that a vCPU runs before the next one's turn [200000]")
      ->group(group)
      ->within(1000, 1'000'000'000);
}

void MachineOptions::check_guest() const {
  if (kernel.empty() && firmware.empty() && image.empty() && drive.empty())
    Command::refuse("no guest: name a disk image, or give --kernel");
}

Result<BootFiles> MachineOptions::boot_files() const {
  BootFiles files{"", kernel, initrd, ""};
  if (firmware == "none") return files;
  if (firmware.empty()) {
    if (kernel.empty() && initrd.empty() && append.empty()) files.fallback_firmware = kSeabios.path;
    return files;
  }
  if (!kernel.empty() || !initrd.empty() || !append.empty())
    return make_error(
        "--firmware {}: firmware starts what is on the disks; it does not go with --kernel, --initrd and "
        "--append",
        firmware);
  files.firmware = firmware;
  for (const KnownFirmware& known : {kSeabios, kOvmf}) {
    if (firmware != known.name) continue;
    files.firmware = known.path;
    if (::access(files.firmware.c_str(), R_OK) != 0)
      return make_error("--firmware {}: cannot open {}: {}; it is in Debian's package {}", known.name,
                        known.path, host_error(errno), known.package);
  }
  return files;
}

Status MachineOptions::apply(SessionRequest* request, HostClock& clock) const {
  MachineSpec& spec = request->setup.spec;
  DEJA_ASSIGN(spec.ram_bytes, parse_memory_size(memory));
  const auto vcpus = parse_number<u32>(without_name(smp, "cpus="));
  if (!vcpus || *vcpus < 1 || *vcpus > 16) return make_error("--smp {}: 1 to 16 vCPUs are possible", smp);
  spec.vcpus = *vcpus;
  if (!check_behaviour(behaviour))
    return make_error("--machine-behaviour {}: this deja has {}", behaviour, to_string(BehaviourRange()));
  request->setup.behaviour = behaviour;
  DEJA_ASSIGN(const CpuModel model, parse_cpu_model(cpu));
  spec.cpu_model = model.name;
  spec.quantum_steps = quantum;
  spec.cmdline = append;
  spec.boot_mode = boot;
  if (boot != "vmlinux" && boot != "bzimage")
    return make_error("--boot {}: there are vmlinux and bzimage", boot);
  if (chaos) spec.options[std::string(kChaosOption)] = std::to_string(*chaos);
  request->guest_may_record = guest_control == "record";  // nothing of the machine's
  if (guest_control == "marks" || guest_control == "off")
    spec.options[std::string(kGuestControlOption)] = guest_control;
  for (const std::string& text : until) {
    DEJA_ASSIGN(EndCondition condition, parse_end_condition(text));
    request->until.push_back(std::move(condition));
  }
  if (until_exit)
    request->until.push_back(
        {EndCondition::Kind::serial, std::string(kPanicText), "--until-exit, the kernel panicked"});
  if (no_reboot || until_exit) spec.options[std::string(kRebootOption)] = "off";
  DEJA_ASSIGN(request->boot, boot_files());
  if (!screen.empty()) {
    DEJA_TRY(parse_screen_size(screen));
    spec.options[std::string(kScreenOption)] = screen;
  }

  DEJA_TRY(apply_date_and_seed(request, clock));
  DEJA_TRY(apply_lines(request));
  return apply_devices(request);
}

Status MachineOptions::apply_date_and_seed(SessionRequest* request, HostClock& clock) const {
  if (rtc == "now") {
    request->setup.rtc_unix_seconds = clock.wall_unix_seconds();
  } else if (const auto date = parse_number<i64>(rtc)) {
    request->setup.rtc_unix_seconds = *date;
  } else {
    return make_error("--rtc {}: `now` or seconds since 1970-01-01 UTC are possible", rtc);
  }
  if (rng_seed.empty()) {
    u8 seed[kDefaultSeedBytes];
    DEJA_TRY(host_entropy(seed));
    request->setup.rng_seed.assign(reinterpret_cast<const char*>(seed), sizeof seed);
  } else if (rng_seed != "none") {
    DEJA_ASSIGN(request->setup.rng_seed, parse_seed(rng_seed));
    if (request->setup.rng_seed.size() > kMaxRngSeed)
      return make_error("--rng-seed: at most {} bytes are possible", kMaxRngSeed);
  }
  return {};
}

Status MachineOptions::apply_lines(SessionRequest* request) const {
  std::vector<std::string> lines = serial;
  if (lines.empty()) lines.emplace_back("stdio");
  if (lines.size() > 1) return make_error("--serial {}: the machine has one serial port", lines[1]);
  for (const std::string& line : lines) {
    DEJA_ASSIGN(SerialConfig parsed, parse_serial(line));
    request->serial.push_back(std::move(parsed));
  }
  if (!console.empty()) {
    DEJA_ASSIGN(SerialConfig parsed, parse_serial(console));
    request->serial.push_back(std::move(parsed));
    request->setup.spec.console = true;
  }
  // QEMU's -monitor none, and stdio, where Ctrl-A c is always there.
  if (!monitor.empty() && monitor != "none" && monitor != "stdio" && monitor != "/dev/null") {
    std::string path = monitor.starts_with("unix:") ? monitor.substr(5) : monitor;
    request->monitor_socket = path.substr(0, path.find(','));
  }
  return {};
}

Status MachineOptions::apply_devices(SessionRequest* request) const {
  MachineSpec& spec = request->setup.spec;
  if (!image.empty()) {
    request->drives.push_back({image, ""});
    spec.drives.push_back({"", false, "deja0"});
  }
  for (const std::string& text : drive) {
    DEJA_ASSIGN(DriveOption parsed, parse_drive(text, spec.drives.size()));
    request->drives.push_back(std::move(parsed.file));
    spec.drives.push_back(std::move(parsed.spec));
  }
  if (nic.size() > 1) return make_error("--nic {}: the machine has one network card", nic[1]);
  if (!nic.empty() || !image.empty()) {
    DEJA_ASSIGN(request->nic, parse_nic(nic.empty() ? "user" : nic[0]));
    spec.nic_mac = request->nic.mac;
  }
  return {};
}

}  // namespace deja
