#!/usr/bin/env python3
"""Compares DejaVM with QEMU and the bare host: the same binaries, in one run, the engines taking turns.

Times are the host's, between marks that the workloads print; each engine is pinned to the same single CPU.
"""

import argparse
import json
import math
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import base
import bench_guest
import servers
import session
from session import Result, Session

sys.path.insert(0, str(bench_guest.ROOT / "tools"))
from guest import demo_guest  # noqa: E402

JIT_WORKLOADS = ["javascript", "luajit"]
# Of a machine with a disk and a network card; and of one with a disk and two vCPUs.
DEVICE_WORKLOADS, SMP_WORKLOADS = ["disk", "download", "upload"], ["smp"]
# What is typed at which prompt: the time to the first one is measured, the last answer ends the session.
BOOTS = {"boot": [(b"\ndemo# ", b"poweroff -f\n")], "debian": [(b" login: ", b"root\n"), (b"# ", b"poweroff -ff\n")]}
WORKLOADS = [*"""integer sieve pointer_chase memcpy string_hash fp_scalar fp_vector interpreter compiler sqlite 7zip openssl
    syscalls pipe_ping_pong fork_exec page_faults""".split(), *JIT_WORKLOADS, *DEVICE_WORKLOADS, *SMP_WORKLOADS]
ENGINES = ["native", "deja", "deja-record", "deja-replay", "qemu", "qemu-record", "qemu-replay"]
NEEDS = {"deja-replay": "deja-record", "qemu-replay": "qemu-record"}
BASE = "@base"  # behind an engine's name: the executable of --compare
MEMORY = "512M"
# Both kinds of guest go without the kernel's workarounds for CPU flaws: the two CPU models have different ones.
BENCH_APPEND = "console=ttyS0 quiet mitigations=off"
BOOT_APPEND = "console=ttyS0"
DEBIAN_APPEND = "root=/dev/vda1 ro console=ttyS0"
DISK_SIZE = 32 << 20
EXAMPLES = """examples:
  ./dev bench                                       every workload on every engine
  ./dev bench --runs 5 --only boot,sqlite           medians of five rounds
  ./dev bench --runs 5 --compare HEAD~1             is this revision slower than the last one?
  ./dev bench --compare /usr/bin/deja --limit 5     than the installed one, by more than 5 %?
"""


@dataclass
class Guest:
    """What a virtual machine is started with, and where its engines keep their recordings."""
    kernel: str
    initrd: str
    append: str
    work: Path
    disk: str | None = None
    network: bool = False
    vcpus: int = 1

    def deja(self, binary: Path, verb: str) -> list[str]:
        disk = ["--drive", f"file={self.disk},format=raw"] if self.disk else []
        return [str(binary), verb, "-m", MEMORY, "--smp", str(self.vcpus), *disk, "--nic", "user" if self.network else "none",
                "--kernel", self.kernel, "--initrd", self.initrd, "--append", self.append]

    def qemu(self, icount: str | None) -> list[str]:
        mode = ["-icount", f"shift=auto,rr={icount},rrfile={self.qemu_log}"] if icount else []
        return ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot",
                "-accel", "tcg", *mode, "-cpu", "max", "-smp", str(self.vcpus), "-m", MEMORY,
                *self.qemu_devices(icount is not None), "-kernel", self.kernel, "-initrd", self.initrd,
                "-append", self.append]

    def qemu_devices(self, replay: bool) -> list[str]:
        """The same as DejaVM's; recording and replaying go through filters (QEMU's docs/system/replay.rst)."""
        options = []
        if self.disk:
            options += ["-drive", f"file={self.disk},format=raw,if=none,id=image,snapshot=on"]
            if replay:
                options += ["-drive", "driver=blkreplay,if=none,image=image,id=replayed"]
            options += ["-device", f"virtio-blk-pci,drive={'replayed' if replay else 'image'}"]
        if self.network:
            options += ["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net"]
            if replay:
                options += ["-object", "filter-replay,id=filter,netdev=net"]
        return options

    @property
    def recording(self) -> Path:
        return self.work / "bench.deja"

    @property
    def base(self) -> "Guest":
        """The same with recordings of its own, which only the executable that made them need understand."""
        return replace(self, work=self.work / "base")

    @property
    def qemu_log(self) -> Path:
        return self.work / "qemu.rr"

    def command(self, engine: str, binary: Path) -> list[str]:
        if engine == "deja":
            return self.deja(binary, "run")
        if engine == "deja-record":
            # Everything is pinned to one CPU, where checkpoints would be written at the guest's expense; what they cost
            # is measured by --travel.
            return [*self.deja(binary, "record"), "--checkpoint-every", "off", "-o", str(self.recording.with_suffix(""))]
        if engine == "deja-replay":
            return [str(binary), "replay", str(self.recording)]
        return self.qemu({"qemu": None, "qemu-record": "record", "qemu-replay": "replay"}[engine])

    def log(self, engine: str) -> Path | None:
        return {"deja-record": self.recording / "events.log", "qemu-record": self.qemu_log}.get(engine)


class Bench:
    def __init__(self, options: argparse.Namespace, workloads: list[str], engines: list[str]):
        self._options, self._engines = options, engines
        self._workloads, self._base = workloads, options.compare
        on_host = [name for name in workloads if name not in [*DEVICE_WORKLOADS, *SMP_WORKLOADS, *BOOTS]]
        self._guests = {kind: (bench_guest.make_guest(kind), names)
                        for kind in ("bench", "jit")
                        if (names := [n for n in on_host if (n in JIT_WORKLOADS) == (kind == "jit")])}
        self._samples: dict[tuple[str, str], list[Result]] = {}
        self._printed: set[str] = set()
        self.troubles: list[str] = []
        self._demo = demo_guest(bench_guest.FLAVOUR, refresh=False)
        self._ports = servers.start() if set(DEVICE_WORKLOADS) & set(workloads) else []

    def round(self, number: int) -> None:
        with tempfile.TemporaryDirectory(prefix="deja-bench-") as folder:
            machines = self._machines(Path(folder))
            for machine, _ in machines:
                machine.work.mkdir()
                machine.base.work.mkdir()
            for engine in self._in_turn(number):
                if engine == "native":
                    for made, names in self._guests.values():
                        self._run_native(number, made["root"], names)
                    continue
                for machine, names in machines:
                    # QEMU 7.2 refuses to record more than one CPU.
                    if machine.vcpus == 1 or engine not in ("qemu-record", "qemu-replay"):
                        self._run(number, engine, machine, names)

    def _in_turn(self, number: int) -> list[str]:
        """Each engine, and beside it the same of the base; which of both goes first changes from round to round."""
        if self._base is None:
            return self._engines
        return [name for engine in self._engines
                for name in ([engine, engine + BASE] if number % 2 else [engine + BASE, engine])]

    def _machines(self, folder: Path) -> list[tuple[Guest, list[str]]]:
        """What is started, and which workloads each does."""
        machines = []
        if "boot" in self._workloads:
            machines.append((Guest(self._demo["kernel"], self._demo["initrd"], BOOT_APPEND, folder / "boot"), ["boot"]))
        if "debian" in self._workloads:
            made = bench_guest.make_debian(self._options.deja)
            machines.append((Guest(made["kernel"], made["initrd"], DEBIAN_APPEND, folder / "debian", made["disk"],
                                   network=True), ["debian"]))
        for kind, (made, names) in self._guests.items():
            machines.append((Guest(self._demo["kernel"], made["initrd"], f"{BENCH_APPEND} bench={','.join(names)}",
                                   folder / kind), names))
        for kind, known, vcpus in (("devices", DEVICE_WORKLOADS, 1), ("smp", SMP_WORKLOADS, 2)):
            if names := [name for name in self._workloads if name in known]:
                made, disk = bench_guest.make_guest("devices"), folder / f"{kind}.raw"
                disk.write_bytes(random.Random(1).randbytes(DISK_SIZE))
                network = bool(self._ports) and kind == "devices"
                sources = f" sources={','.join(map(str, self._ports))}" if network else ""
                machines.append((Guest(made["kernel"], made["initrd"], f"{BENCH_APPEND} bench={','.join(names)}{sources}",
                                       folder / kind, str(disk), network, vcpus), names))
        return machines

    def _run(self, number: int, engine: str, guest: Guest, expected: list[str]) -> None:
        kind, of_base = engine.removesuffix(BASE), engine.endswith(BASE)
        if of_base:
            guest = guest.base
        if kind == "deja-record":
            shutil.rmtree(guest.recording, ignore_errors=True)
        command = guest.command(kind, self._base if of_base else self._options.deja)
        self._keep(number, engine, self._pinned(engine, command), expected, log=guest.log(kind),
                   dialogue=BOOTS.get(expected[0]), types=kind not in NEEDS)

    def _run_native(self, number: int, root: str, names: list[str]) -> None:
        enter = ["chroot"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "chroot"]
        for name in names:
            # A process inherits the peak of the one it was forked from, so a small one measures the workload's.
            peak = ["/usr/bin/busybox", "time", "-f", "BENCH-PEAK %M"]
            command = [*enter, root, *peak, "/bench/run", name]
            self._keep(number, "native", self._pinned("native", command), [name], log=None)

    def _pinned(self, engine: str, command: list[str]) -> list[str]:
        command = ["taskset", "-c", str(self._options.cpu), *command]
        shown = f"{engine}: {' '.join(command)}"
        if engine != "native" or not any(line.startswith("native:") for line in self._printed):
            if shown not in self._printed and self._options.verbose:
                print(shown, file=sys.stderr)
            self._printed.add(shown)
        return command

    def _keep(self, number: int, engine: str, command: list[str], expected: list[str], log: Path | None,
              **how) -> None:
        what = expected[0] if len(expected) == 1 else f"{len(expected)} workloads"
        print(f"bench: round {number}, {engine}: {what} …", file=sys.stderr, end=" ", flush=True)
        try:
            done = session.run(command, expected, log, self._options.timeout, **how)
        except OSError as error:
            done = Session(trouble=str(error))
        print("done" if done.trouble is None else done.trouble, file=sys.stderr)
        if done.trouble is not None:
            self.troubles.append(f"{engine}: {what}: {done.trouble}")
            print(f"  {' '.join(command)}\n  its last output:", file=sys.stderr)
            print("\n".join(f"  | {line}" for line in done.tail.decode(errors="replace").splitlines()[-12:]),
                  file=sys.stderr)
        for name, result in done.results.items():
            self._samples.setdefault((name, engine), []).append(result)

    def engines(self) -> list[str]:
        return self._in_turn(1)

    def commands(self) -> list[str]:
        return sorted(self._printed)

    def compared(self) -> list[tuple[str, str, float]]:
        """(workload, engine, processor time over the base's) of the fastest round of each: other work only adds to it."""
        def least(name: str, engine: str) -> float | None:
            return min((sample.cpu for sample in self._samples.get((name, engine), [])), default=None)

        return [(name, engine, ours / theirs) for name in self._workloads for engine in self._engines
                if (ours := least(name, engine)) and (theirs := least(name, engine + BASE))]

    def rows(self) -> list[dict]:
        """Medians over the rounds; a checksum that is not the same every time and everywhere is a trouble."""
        rows = []
        for name in self._workloads:
            sums = {}
            for engine in self._in_turn(1):
                samples = self._samples.get((name, engine))
                if not samples:
                    continue
                for sample in samples:
                    sums.setdefault(sample.checksum, set()).add(engine)
                logs = [sample.log_bytes for sample in samples if sample.log_bytes is not None]
                rows.append({"workload": name, "engine": engine,
                             "seconds": round(statistics.median(sample.seconds for sample in samples), 4),
                             # Native, the process that is seen only waits for the one that works.
                             "cpu_seconds": None if engine == "native" else
                             round(statistics.median(sample.cpu for sample in samples), 4),
                             "log_bytes": int(statistics.median(logs)) if logs else None,
                             "peak_rss": max(sample.peak_rss for sample in samples),
                             "checksum": samples[0].checksum})
            if len(sums) > 1:
                seen = "; ".join(f"{value} in {', '.join(sorted(who))}" for value, who in sums.items())
                self.troubles.append(f"{name}: checksums differ: {seen}")
        return rows


def human(size: int | None) -> str:
    if size is None:
        return "-"
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.2f} GiB"


def aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join([row[0].ljust(widths[0]), *[c.rjust(w) for c, w in zip(row[1:], widths[1:])]])
                     for row in rows)


def table(rows: list[dict], workloads: list[str], engines: list[str]) -> str:
    """Seconds of each engine; then its ratios to native, and QEMU's record time over DejaVM's; then log and memory."""
    cells = {(row["workload"], row["engine"]): row for row in rows}

    def ratio(name: str, over: str, under: str) -> float | None:
        a, b = cells.get((name, over)), cells.get((name, under))
        return a["seconds"] / b["seconds"] if a and b and b["seconds"] else None

    def mean(over: str, under: str) -> str:
        found = [r for name in workloads if (r := ratio(name, over, under))]
        return f"{math.exp(sum(map(math.log, found)) / len(found)):.2f}" if found else "-"

    machines = [engine for engine in engines if engine != "native"]
    pairs = [(engine, "native") for engine in machines] if "native" in engines else []
    faster = [("qemu-record", "deja-record"), ("qemu", "deja"), ("qemu-replay", "deja-replay")]
    faster = [pair for pair in faster if set(pair) <= set(engines)]
    recorders = [engine for engine in engines if engine.endswith("-record")]

    parts = ["Seconds", aligned([["workload", *engines]] + [
        [name, *[f"{cells[name, e]['seconds']:.3f}" if (name, e) in cells else "-" for e in engines]]
        for name in workloads])]
    if pairs or faster:
        head = ["workload", *[f"{a}/native" for a, _ in pairs], *[f"{a}/{b}" for a, b in faster]]
        body = [[name, *[f"{r:.2f}" if (r := ratio(name, *pair)) else "-" for pair in pairs + faster]]
                for name in workloads]
        parts += ["Ratios of seconds (over native: lower is better; QEMU over DejaVM: above 1, DejaVM is faster)",
                  aligned([head, *body, ["geometric mean", *[mean(*pair) for pair in pairs + faster]]])]
    parts += ["Log written, and peak resident memory", aligned(
        [["workload", *[f"log {e}" for e in recorders], *[f"rss {e}" for e in engines]]] + [
            [name, *[human(cells[name, e]["log_bytes"]) if (name, e) in cells else "-" for e in recorders],
             *[human(cells[name, e]["peak_rss"]) if (name, e) in cells else "-" for e in engines]]
            for name in workloads])]
    return "\n\n".join(parts)


def comparison(compared: list[tuple[str, str, float]], workloads: list[str], engines: list[str]) -> tuple[str, float]:
    """A table of the ratios, and the worst geometric mean of an engine."""
    found = {(name, engine): ratio for name, engine, ratio in compared}
    means = {engine: math.exp(statistics.fmean(logs)) for engine in engines
             if (logs := [math.log(found[name, engine]) for name in workloads if (name, engine) in found])}
    body = [[name, *[f"{found[name, e]:.3f}" if (name, e) in found else "-" for e in engines]] for name in workloads]
    body.append(["geometric mean", *[f"{means[e]:.3f}" if e in means else "-" for e in engines]])
    return ("Processor time over the base's, fastest round of each (below 1: faster than the base)\n"
            + aligned([["workload", *engines], *body])), max(means.values(), default=math.inf)


def first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return f"{command[0]}: not there"
    return (done.stdout or done.stderr).strip().split("\n")[0]


def versions(options: argparse.Namespace) -> list[str]:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return [f"host: {model.group(1) if model else 'unknown CPU'}, {os.cpu_count()} CPUs, Linux {platform.release()}",
            f"pinned to CPU {options.cpu}, {options.runs} round(s), medians",
            f"deja: {first_line(str(options.deja), 'version')}",
            *([f"base: {first_line(str(options.compare), 'version')}"] if options.compare else []),
            f"qemu: {first_line('qemu-system-x86_64', '--version')}"]


def chosen(text: str | None, known: list[str], option: str) -> list[str]:
    if text is None:
        return known
    asked = [name for name in text.split(",") if name]
    unknown = [name for name in asked if name not in known]
    if unknown or not asked:
        sys.exit(f"{option}: unknown: {', '.join(unknown) or '(nothing named)'}; there are: {', '.join(known)}")
    return [name for name in known if name in asked]


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__, epilog=EXAMPLES,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", metavar="FILE", help="also write one object per workload and engine")
    parser.add_argument("--only", metavar="A,B", help=f"workloads: {', '.join([*WORKLOADS, *BOOTS])}")
    parser.add_argument("--engines", metavar="A,B", help=f"engines: {', '.join(ENGINES)} (a replay needs its record)")
    parser.add_argument("--runs", type=int, default=1, metavar="N", help="rounds; medians are reported (default: 1)")
    parser.add_argument("--cpu", type=int, default=max(os.sched_getaffinity(0)), help="CPU to pin to (default: last)")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for one run of one engine (default: 1800)")
    parser.add_argument("--deja", type=Path, default=bench_guest.ROOT / "build" / "deja", help="default: build/deja")
    parser.add_argument("--compare", type=base.executable, metavar="BASE",
                        help="run each engine beside the one of another executable or of a revision, which is built; "
                             "status 1 if it is slower by more than --limit")
    parser.add_argument("--limit", type=float, default=2, metavar="PERCENT",
                        help="how much slower than BASE an engine's geometric mean may be (default: 2)")
    parser.add_argument("--verbose", action="store_true", help="print each command line when it is run")
    options = parser.parse_args()
    workloads = chosen(options.only, [*WORKLOADS, *BOOTS], "--only")
    engines = chosen(options.engines, ENGINES, "--engines")
    if options.compare:
        engines = [engine for engine in engines if engine.startswith("deja")]
        if not engines:
            sys.exit("--compare: none of the engines is DejaVM's")
    for replay, record in NEEDS.items():
        if replay in engines and record not in engines:
            engines.insert(engines.index(replay), record)
    if options.runs < 1:
        sys.exit("--runs: at least 1")

    print("\n".join(versions(options)), file=sys.stderr)
    bench = Bench(options, workloads, engines)
    for number in range(1, options.runs + 1):
        bench.round(number)
    rows = bench.rows()
    print("\n".join([*versions(options), *bench.commands(), "", table(rows, workloads, bench.engines())]))
    too_slow = False
    if options.compare:
        text, worst = comparison(bench.compared(), workloads, engines)
        too_slow = worst > 1 + options.limit / 100
        print(f"\n{text}")
        if too_slow:
            print(f"bench: slower than the base by more than {options.limit:g} %", file=sys.stderr)
    if options.json:
        Path(options.json).write_text(json.dumps(rows, indent=1) + "\n")
    for trouble in bench.troubles:
        print(f"bench: {trouble}", file=sys.stderr)
    return 1 if bench.troubles or too_slow else 0


if __name__ == "__main__":
    sys.exit(main())
