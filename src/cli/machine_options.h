// The options that describe a machine and its surroundings, shared by `run` and `record`.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "inputs/host_clock.h"
#include "replay/record_session.h"

namespace deja {

// What connects a network card, for the help of verbs.
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
  bool no_reboot = false;
  std::vector<std::string> until;
  bool until_exit = false;

  void add_to(CLI::App& app);
  // For the end of parsing: throws CLI::ParseError when no guest is named.
  void check_guest() const;
  // Fills in all of `request` that these options say. Reads the host's date and entropy where they are asked
  // for.
  Status apply(SessionRequest* request, HostClock& clock) const;

 private:
  Result<BootFiles> boot_files() const;
};

// "512M", "2G", "131072K"; a plain number counts MiB, as in QEMU.
Result<u64> parse_memory_size(std::string_view text);

}  // namespace deja
