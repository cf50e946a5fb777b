// The options that describe a machine and its surroundings, shared by `run` and `record`.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/options/command.h"
#include "inputs/host_clock.h"
#include "replay/record_session.h"

namespace deja {

// The form of a value of --nic, for the help of verbs.
inline constexpr std::string_view kNicForm =
    "user[,hostfwd=tcp::HOSTPORT-:GUESTPORT]…[,restrict=on][,mac=…][,net=ADDR/BITS][,dns=ADDR][,ipv6=on]";

struct MachineOptions {
  std::string memory = "512M";
  std::string smp = "1";
  std::string cpu = "x86-64-v3";
  std::string image;
  std::string kernel, initrd, append;
  std::string firmware;
  std::string boot = "vmlinux";
  std::vector<std::string> serial;
  std::string console;
  std::string screen;
  std::vector<std::string> drive;
  std::vector<std::string> nic;
  std::string monitor;
  std::string rtc = "now";
  std::string rng_seed;
  u64 quantum = MachineConfig().quantum;
  std::optional<u64> chaos;
  std::string guest_control = "on";
  u32 behaviour = kMachineBehaviour;
  bool no_reboot = false;
  std::vector<std::string> until;
  bool until_exit = false;

  void add_to(Command& app);
  // For the end of parsing: refuses the line when no guest is named.
  void check_guest() const;
  // Fills in what these options say of `request`. Reads the host's date and entropy where they are asked for.
  Status apply(SessionRequest* request, HostClock& clock) const;

 private:
  // Parts of apply().
  Status apply_date_and_seed(SessionRequest* request, HostClock& clock) const;
  Status apply_lines(SessionRequest* request) const;
  Status apply_devices(SessionRequest* request) const;
  Result<BootFiles> boot_files() const;
};

// "512M", "2G", "131072K"; a plain number counts MiB, as in QEMU.
Result<u64> parse_memory_size(std::string_view text);

}  // namespace deja
