#include "timeline/branch.h"

#include <algorithm>

#include "timeline/serial_text.h"

namespace deja {
namespace {

// Where the branch's checkpoints go on, and what was sent since; leaves `nav` where it stands.
Status add_checkpoints(Navigator& nav, BranchPoint* branch) {
  const Step here = nav.position();
  DEJA_ASSIGN(CheckpointWriter::Continuation from, nav.continuation());
  while (true) {
    const auto start = [&] { return from.reader ? from.reader->point(from.checkpoint).step : nav.first(); };
    const Step since = start();
    DEJA_ASSIGN(branch->serial, serial_text(nav, since, here));
    // On this way it may have come by an earlier one.
    DEJA_ASSIGN(from, nav.continuation());
    if (start() == since) break;
  }
  branch->checkpoints = std::move(from);
  return {};
}

using Kind = SerialConfig::Kind;

Result<std::vector<SerialConfig>> parse_lines(const std::vector<std::string>& asked, std::size_t ports) {
  if (asked.size() > ports)
    return make_error("--serial {}: the recorded machine has no line for it, it has {}", asked[ports],
                      ports == 1 ? "COM1 only" : "COM1 and the virtio console");
  std::vector<SerialConfig> lines(ports);
  for (std::size_t i = 0; i < asked.size(); ++i) {
    DEJA_ASSIGN(lines[i], parse_serial(asked[i]));
  }
  return lines;
}

}  // namespace

Result<BranchSerial> branch_serial(const MachineSpec& machine, const std::vector<std::string>& asked) {
  const std::size_t ports = machine.console ? 2 : 1;
  BranchSerial out;
  if (!asked.empty()) {
    DEJA_ASSIGN(out.lines, parse_lines(asked, ports));
    return out;
  }
  out.lines.resize(ports);
  const auto at_terminal = [&] {
    return std::any_of(out.lines.begin(), out.lines.end(),
                       [](const SerialConfig& line) { return line.kind == Kind::stdio; });
  };
  std::vector<std::size_t> not_opened;
  for (std::size_t i = 0; i < std::min(ports, machine.serial.size()); ++i) {
    auto recorded = parse_serial(machine.serial[i]);
    if (recorded && recorded->kind == Kind::none) continue;
    if (recorded && recorded->kind == Kind::stdio && !at_terminal())
      out.lines[i] = *recorded;
    else
      not_opened.push_back(i);
  }
  if (!at_terminal() && !not_opened.empty()) out.lines[not_opened[0]].kind = Kind::stdio;
  for (const std::size_t i : not_opened)
    out.notes.push_back(fmt::format(
        "{} was connected to {} in the recording, which is not opened; it is {} now, --serial says otherwise",
        i == 0 ? "COM1" : "the virtio console", machine.serial[i],
        out.lines[i].kind == Kind::stdio ? "at this terminal" : "connected to nothing"));
  return out;
}

Result<BranchPoint> branch_here(Navigator& nav) {
  if (nav.machine().end() != MachineEnd::none)
    return make_error("the machine has ended at step {}: go on from an earlier moment", nav.position());
  BranchPoint branch;
  branch.machine = &nav.machine();
  branch.parent = nav.manifest();
  branch.parent_dir = nav.dir();
  // Without a base the checkpoints are not needed.
  if (Status status = add_checkpoints(nav, &branch); !status && nav.manifest().base) return status.error();
  DEJA_TRY(nav.load_all());  // last: whatever goes back in time makes pages absent again
  branch.counts = nav.replayer().counts();
  DEJA_ASSIGN(Recording recording, Recording::reopen(nav.dir(), nav.manifest()));
  while (branch.log.size() < branch.counts.events) {
    DEJA_ASSIGN(const std::optional<LogEvent> event, recording.log.next());
    if (!event)
      return make_error("{}: the log has {} events, and had {} when it was opened", nav.dir().string(),
                        branch.log.size(), branch.counts.events);
    // An end that was of the host's making was not the machine's.
    if (!std::holds_alternative<event::End>(event->body))
      branch.log.push_back(*event);
    else
      --branch.counts.events;
  }
  return branch;
}

}  // namespace deja
