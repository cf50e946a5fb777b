#!/usr/bin/env python3
"""What time travel costs, side by side with QEMU's reverse debugging: recording with and without checkpoints, their size,
and how long one gdb script takes to go back, on recordings of the same guest.

The guest works for some seconds of its own time and powers off. From there gdb steps back, and continues back to the one
write of a byte before all the work. QEMU records with `-icount shift=auto,rr=record,rrsnapshot=init`; to go back it starts
from that snapshot, or from others that are asked for. Each of its steps has a limit, and what went wrong is printed.
"""

import argparse
import json
import os
import re
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from travel_guest import ROOT, TravelGuest

RECORDING_LIMIT = 3600
QEMU = "qemu-system-x86_64"


def kill(process: subprocess.Popen) -> None:
    process.kill()  # a replaying QEMU does not hear anything less
    process.communicate()


@dataclass
class Cost:
    seconds: float  # of the host, between the two marks on the console
    cpu: float      # seconds of all its threads, its start included: other work on the host matters less


def cost_of_work(command: list[str], limit: float) -> Cost:
    """Runs a machine to its end."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    deadline, output, marks = time.monotonic() + limit, b"", {}
    while True:
        if not select.select([process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
            kill(process)
            raise TimeoutError(f"timed out after {limit:.0f} s")
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            break
        output += data
        for mark in (b"TRAVEL-START", b"TRAVEL-END"):
            if mark in output:
                marks.setdefault(mark, time.monotonic())
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0 or len(marks) != 2:
        raise RuntimeError(f"{command[0]} ended with {process.returncode}: {output[-500:].decode(errors='replace')}")
    return Cost(marks[b"TRAVEL-END"] - marks[b"TRAVEL-START"], usage.ru_utime + usage.ru_stime)


def compared(without: list[Cost], with_them: list[Cost], what: str) -> dict[str, str]:
    """Rows of the table: what recording costs with and without checkpoints or snapshots."""
    rows = {}
    for row, cost in (("recording the work", lambda c: c.seconds), ("CPU time of recording", lambda c: c.cpu)):
        a, b = (statistics.median(map(cost, costs)) for costs in (without, with_them))
        rows[row] = f"{shown(a)} without {what}, {shown(b)} with ({(b / a - 1) * 100:+.0f} %)"
    return rows


@dataclass
class Travel:
    """What gdb's script took: seconds by step, and what is to be said of those that went wrong."""
    seconds: dict[str, list[float]] = field(default_factory=dict)
    trouble: dict[str, str] = field(default_factory=dict)

    def cell(self, step: str) -> str:
        times = sorted(self.seconds.get(step, []))
        text = ""
        if len(times) > 3:
            text = f"{shown(statistics.median(times))}, longest {shown(times[-1])}"
        elif times:
            text = ", ".join(shown(s) for s in self.seconds[step])
        if step in self.trouble:
            text = f"{text}; {self.trouble[step]}" if text else self.trouble[step]
        return text or "-"


def shown(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def travel(server: subprocess.Popen, target: str, places: dict[str, str], what: str, steps: int, seeks: int,
           limit: float) -> Travel:
    environment = {**os.environ, **places, "TRAVEL_TARGET": target, "TRAVEL_WHAT": what, "TRAVEL_STEPS": str(steps),
                   "TRAVEL_SEEKS": str(seeks)}
    gdb = subprocess.Popen(["gdb", "-nx", "-q", "-batch", "-x", str(ROOT / "bench" / "travel_gdb.py")], env=environment,
                           stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    result, step, pending = Travel(), "start of gdb", b""
    try:
        while True:
            if not select.select([gdb.stdout], [], [], limit)[0]:
                result.trouble[step] = f"timed out after {limit:.0f} s"
                return result
            data = os.read(gdb.stdout.fileno(), 65536)
            if not data:
                break
            *lines, pending = (pending + data).split(b"\n")
            for line in lines:
                words = line.decode(errors="replace").split(maxsplit=4)
                if words[:2] == ["TRAVEL", "begin"]:
                    step = words[2]
                elif words[:2] == ["TRAVEL", "end"]:
                    result.seconds.setdefault(step, []).append(float(words[3]))
                    if words[4] != "ok":
                        result.trouble[step] = words[4]
                    step = "what follows " + words[2]
        if gdb.wait() != 0:
            result.trouble[step] = f"gdb ended with {gdb.returncode}"
        return result
    finally:
        kill(gdb)
        kill(server)


class Deja:
    def __init__(self, binary: Path, guest: TravelGuest, seconds: int, work: Path):
        self.binary, self.guest, self.seconds, self.work = binary, guest, seconds, work
        self.recording = work / "with.deja"

    def record(self, name: str, *options: str) -> Cost:
        shutil.rmtree(self.work / f"{name}.deja", ignore_errors=True)
        command = [str(self.binary), "record", "-o", str(self.work / name), *options, *self.guest.options(self.seconds)]
        return cost_of_work(command, RECORDING_LIMIT)

    def info(self, key: str) -> str:
        text = subprocess.run([str(self.binary), "info", str(self.recording)], capture_output=True, text=True, check=True).stdout
        return re.search(rf"^{key} +(.*)$", text, re.M)[1]

    def places(self) -> dict[str, str]:
        """Where the end of the work and the host name are in this kernel, from its own symbol table."""
        shown_by_gdb = subprocess.run(
            [str(self.binary), "debug", str(self.recording), "--", "-nx", "-batch", "-ex", "output/x (long) &__x64_sys_reboot",
             "-ex", "echo \\n", "-ex", "output/x (long) &init_uts_ns + 65"], capture_output=True, text=True, check=True).stdout
        end, name = re.findall(r"^0xffffffff[0-9a-f]{8}", shown_by_gdb, re.M)[-2:]
        return {"TRAVEL_END": end, "TRAVEL_NAME": name}  # new_utsname.nodename is behind 65 bytes of sysname

    def travel(self, places: dict[str, str], steps: int, seeks: int) -> Travel:
        server = subprocess.Popen([str(self.binary), "debug", "-s", "0", str(self.recording)], stderr=subprocess.PIPE)
        line = server.stderr.readline().decode()
        return travel(server, re.search(r"localhost:\d+", line)[0], places, "reverse-stepi reverse-continue seek", steps, seeks,
                      RECORDING_LIMIT)


class Qemu:
    def __init__(self, guest: TravelGuest, seconds: int, work: Path, snapshot_every: float):
        self.guest, self.seconds, self.work, self.snapshot_every = guest, seconds, work, snapshot_every
        self.log, self.disk, self.monitor, self.gdb = (work / name for name in ("qemu.rr", "snapshots.qcow2", "qmp", "gdb"))
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(self.disk), "1G"], check=True)

    def command(self, mode: str, snapshot: bool) -> list[str]:
        both = [option.replace("--", "-", 1) for option in self.guest.options(self.seconds)]
        rr = f"shift=auto,rr={mode},rrfile={self.log}" + (",rrsnapshot=init" if snapshot else "")
        disk = ["-drive", f"file={self.disk},if=none,id=snapshots"] if snapshot else []
        return [QEMU, "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-accel", "tcg", "-icount", rr, *disk,
                "-cpu", "max", *both]

    def record(self, snapshots: bool, limit: float) -> Cost:
        command = self.command("record", snapshots)
        if not snapshots or not self.snapshot_every:
            return cost_of_work(command, limit)
        over = threading.Event()
        taker = threading.Thread(target=self._take_snapshots, args=(over,))
        taker.start()
        try:
            return cost_of_work([*command, "-qmp", f"unix:{self.monitor},server=on,wait=off"], limit)
        finally:
            over.set()
            taker.join()

    def _take_snapshots(self, over: threading.Event) -> None:
        while not self.monitor.exists() and not over.wait(0.1):
            pass
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(str(self.monitor))
                with connection.makefile("rw") as lines:
                    lines.readline()
                    self._ask(lines, "qmp_capabilities")
                    number = 0
                    while not over.wait(self.snapshot_every):
                        number += 1
                        self._ask(lines, "human-monitor-command", {"command-line": f"savevm s{number}"})
            except (OSError, ValueError):
                pass  # it has powered off

    @staticmethod
    def _ask(lines, command: str, arguments: dict | None = None) -> None:
        lines.write(json.dumps({"execute": command, "arguments": arguments or {}}) + "\n")
        lines.flush()
        while "return" not in json.loads(lines.readline()):
            pass

    def snapshots(self) -> int:
        text = subprocess.run(["qemu-img", "snapshot", "-l", str(self.disk)], capture_output=True, text=True, check=True).stdout
        return len(re.findall(r"^\d+ ", text, re.M))

    def travel(self, places: dict[str, str], what: str, steps: int, limit: float) -> Travel:
        self.gdb.unlink(missing_ok=True)
        server = subprocess.Popen([*self.command("replay", True), "-S", "-chardev",
                                   f"socket,path={self.gdb},server=on,wait=off,id=gdb", "-gdb", "chardev:gdb"],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while not self.gdb.exists() and server.poll() is None:
            time.sleep(0.1)
        return travel(server, str(self.gdb), places, what, steps, 0, limit)


def measure_deja(options: argparse.Namespace, guest: TravelGuest, seconds: int, work: Path):
    """The table's column, and where to stop in the guest."""
    deja = Deja(options.deja, guest, seconds, work)
    off, on = [], []
    for _ in range(options.rounds):
        off.append(deja.record("without", "--checkpoint-every", "off"))
        on.append(deja.record("with"))
    places = deja.places()
    gone = deja.travel(places, options.steps, options.seeks)
    size = (deja.recording / "checkpoints.dat").stat().st_size
    steps = deja.info("steps")
    cells = {"recorded": f"{steps} steps, {deja.info('guest.s time')} of guest time",
             **compared(off, on, "checkpoints"),
             "checkpoints": f"{size / 2**20:.1f} MiB, {size / 2**20 / float(deja.info('guest.s time').split()[0]) * 60:.0f} MiB "
                            "per minute of guest time"}
    for step in ("replay", "reverse-stepi", "reverse-continue", "seek", "who-wrote"):
        cells[step] = gone.cell(step)
    return cells, places


def measure_qemu(options: argparse.Namespace, guest: TravelGuest, seconds: int, work: Path,
                 places: dict[str, str]) -> dict[str, str]:
    qemu = Qemu(guest, seconds, work, options.qemu_snapshot_every)
    cells = {}
    try:
        without = qemu.record(False, options.qemu_recording_limit)
        with_them = qemu.record(True, options.qemu_recording_limit)
    except (TimeoutError, RuntimeError) as error:
        return {"recording the work": str(error)}
    cells.update(compared([without], [with_them], "snapshots"))
    cells["checkpoints"] = f"{qemu.disk.stat().st_size / 2**20:.0f} MiB for {qemu.snapshots()} snapshot(s)"
    # Its steps back may hang; what comes behind is asked in a session of its own.
    for what in ("reverse-stepi", "reverse-continue"):
        gone = qemu.travel(places, what, options.qemu_steps, options.qemu_limit)
        cells.setdefault("replay", gone.cell("replay"))
        cells[what] = gone.cell(what)
        others = [f"{step}: {trouble}" for step, trouble in gone.trouble.items() if step not in (what, "replay")]
        if others or cells[what] == "-":
            cells[what] = "; ".join(["not reached" if cells[what] == "-" else cells[what], *others])
    return cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    build = ROOT / "build"
    parser.add_argument("--travel", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--deja", type=Path, default=build / "deja")
    parser.add_argument("--random-seeks", type=Path, default=build / "tests" / "seek" / "random_seeks")
    parser.add_argument("--seconds", type=int, nargs="+", default=[10], metavar="S",
                        help="how long the guest works, by its own clock, in each of the recordings [10]; 60, 600")
    parser.add_argument("--rounds", type=int, default=3, help="DejaVM's recordings with and without checkpoints, in turns [3]")
    parser.add_argument("--steps", type=int, default=50, help="times of reverse-stepi in DejaVM [50]")
    parser.add_argument("--seeks", type=int, default=50, help="seeks to random places [50]")
    parser.add_argument("--no-qemu", action="store_true", help="DejaVM alone")
    parser.add_argument("--qemu-steps", type=int, default=3, help="times of reverse-stepi in QEMU [3]")
    parser.add_argument("--qemu-limit", type=float, default=300, help="seconds for each of QEMU's steps [300]")
    parser.add_argument("--qemu-recording-limit", type=float, default=1200, help="seconds for QEMU's recordings [1200]")
    parser.add_argument("--qemu-snapshot-every", type=float, default=0,
                        help="seconds between snapshots that QEMU takes while it records (savevm), besides the one at the "
                             "beginning [0: none]")
    options = parser.parse_args()
    for seconds in options.seconds:
        with tempfile.TemporaryDirectory(prefix="deja-bench-") as folder:
            work = Path(folder)
            guest = TravelGuest(work)
            deja, places = measure_deja(options, guest, seconds, work)
            qemu = {} if options.no_qemu else measure_qemu(options, guest, seconds, work, places)
            # Times mean little on a busy host.
            print(f"\n{deja.pop('recorded')}; {os.cpu_count()} processors, load average {os.getloadavg()[0]:.1f} at the end\n\n"
                  "| | DejaVM | QEMU |\n| --- | --- | --- |")
            for row in dict.fromkeys([*deja, *qemu]):
                print(f"| {row} | {deja.get(row, '-')} | {qemu.get(row, '-')} |")
            sys.stdout.flush()
            # The library below all of this, without gdb: far and near, each state compared with a straight replay's.
            if subprocess.run([str(options.random_seeks), str(work / "with.deja"), str(options.seeks)], check=False).returncode:
                sys.exit(1)


if __name__ == "__main__":
    main()
